"""The real part of a two-dimensional Fourier transform: against FNet's module and torch's FFT."""

import pytest
import torch
from transformers import FNetConfig
from transformers.models.fnet import modeling_fnet

from gpuday.core.errors import UsageError
from gpuday.models.encoder import EncoderConfig
from gpuday.models.mixers import fourier
from gpuday.models.mixers.fourier import Fourier
from gpuday.models.visible import Visible

X = torch.randn(3, 12, 32, generator=torch.Generator().manual_seed(5))


def test_it_is_fnets(make_place):
    """The transform of the Transformers library's FNet, which is not scaled; ours by default is unitary."""
    theirs = modeling_fnet.FNetBasicFourierTransform(FNetConfig(use_tpu_fourier_optimizations=False))
    (expected,) = theirs(X)
    paper = Fourier(unitary=False).build(make_place())
    torch.testing.assert_close(paper(X, Visible()), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        Fourier().build(make_place())(X, Visible()) * (12 * 32) ** 0.5, expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("length", [1, 2, 7, 512])
def test_every_length_is_exact(length, make_place):
    """Whole turns are taken off in integers, so that long rows are as exact as short ones."""
    x = torch.randn(1, length, 34, generator=torch.Generator().manual_seed(1))
    expected = torch.fft.fftn(x.double(), dim=(1, 2), norm="ortho").real.float()
    torch.testing.assert_close(Fourier().build(make_place())(x, Visible()), expected, atol=2e-6, rtol=1e-4)


def test_each_document_is_transformed_by_itself(make_place):
    """Packed and padded rows by torch's FFT of each document's real tokens; padding answers zero."""
    mask = torch.arange(12) < torch.tensor([[12], [9], [4]])
    segments = torch.tensor([[0] * 5 + [1] * 7, [0] * 2 + [1] * 10, [0] * 12])
    found = Fourier().build(make_place())(X, Visible(mask, segments))
    for row, start, stop in [(0, 0, 5), (0, 5, 12), (1, 0, 2), (1, 2, 9), (2, 0, 4)]:
        expected = torch.fft.fftn(X[row, start:stop], norm="ortho").real
        torch.testing.assert_close(found[row, start:stop], expected, atol=1e-5, rtol=1e-4)
    assert not found[~mask].any()


@pytest.mark.parametrize("limits", [{}, {"segments": torch.tensor([[0] * 5 + [1] * 7]).expand(3, -1)}])
def test_layers_share_the_tables_that_they_multiply_by(limits, make_place, monkeypatch):
    """Made once for two layers, in their dtype; of one row's size where rows are whole."""
    made = []
    real = fourier.tables
    monkeypatch.setattr(fourier, "tables", lambda *args, **options: made.append(real(*args, **options)) or made[-1])
    seen = Visible(**limits)
    for _ in range(2):
        Fourier().build(make_place())(X, seen)
    assert [cos.shape for cos, _ in made] == [(32, 32), (3, 12, 12) if limits else (12, 12)]


@pytest.mark.parametrize("position", ["rotary", "alibi"])
def test_positions_that_act_on_scores_are_refused(position):
    """When the config is made: they would be ignored."""
    with pytest.raises(UsageError, match=f"{position} positions act on scores") as caught:
        EncoderConfig(mixer=Fourier(), position=position)
    assert caught.value.where == "model.position"
    assert not EncoderConfig(mixer=Fourier(), position="learned").causal
