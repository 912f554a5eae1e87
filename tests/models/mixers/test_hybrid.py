"""One mixer below, another above."""

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.models.encoder import Encoder, EncoderConfig
from gpuday.models.mixers.fourier import Fourier, FourierMixing
from gpuday.models.mixers.hybrid import Hybrid
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain

UPPER = Softmax(head_width=16, window=6, global_every=2, value_residual=True)


def test_the_last_layers_have_the_upper_mixer(make_place):
    """Three of Fourier and two of softmax, the first of which is global and keeps its values."""
    built = [Hybrid(upper=UPPER).build(make_place(layer=layer, depth=5)) for layer in range(5)]
    assert [isinstance(mixer, FourierMixing) for mixer in built] == [True, True, True, False, False]
    assert [mixer.weights.reach for mixer in built[3:]] == [None, 3]
    assert [mixer.keeps_values for mixer in built[3:]] == [True, False]


def test_layers_count_what_their_own_mixer_counts(make_place):
    """FLOPs of a layer are its mixer's at its place among its kind."""
    places = [make_place(layer=layer, depth=3) for layer in range(3)]
    flops = [Hybrid(upper=UPPER).flops_per_token(place) for place in places]
    above = [UPPER.flops_per_token(make_place(layer=layer)) for layer in range(2)]
    assert flops == [Fourier().flops_per_token(places[0]), *above]


def test_a_model_with_both_trains():
    """Rotary positions act on the upper layers alone; every weight gets a gradient."""
    config = EncoderConfig(width=32, shape=Plain(layers=4), mixer=Hybrid(upper=UPPER))
    encoder = Encoder(config, vocab=50, length=16)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    ids = torch.randint(0, 50, (2, 16), generator=generator)
    encoder(ids, torch.arange(16) < torch.tensor([[16], [9]])).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("before", "layers", "last"), [(12, 12, 4), (12, 6, 2), (12, 4, 1), (12, 2, 1), (5, 4, 3), (6, 60, 40)]
)
def test_another_depth_keeps_the_share_of_both(before, layers, last):
    """By hand; the upper mixer has one layer at least, the lower one too."""
    assert Hybrid(last=4).resized(layers, before=before).last == last


def test_a_single_layer_is_the_upper_mixer():
    """Without a first value, which nobody would read; or the lower one, where positions act on it alone."""
    assert Hybrid(upper=UPPER).resized(1, before=4) == Softmax(head_width=16, window=6, global_every=2)
    assert Hybrid(lower=Softmax(), upper=Fourier()).resized(1, before=4) == Softmax()
    assert Hybrid(lower=Softmax(), upper=Fourier()).traits.scored


@pytest.mark.parametrize(
    ("mixer", "where"),
    [
        (Hybrid(last=4), "model.mixer.last"),
        (Hybrid(upper=Softmax(head_width=48)), "model.mixer.head_width"),
        (Hybrid(lower=Softmax(head_width=48)), "model.mixer.head_width"),
        (Hybrid(upper=UPPER, last=1), "model.mixer.value_residual"),
        (Hybrid(lower=UPPER, last=3), "model.mixer.value_residual"),
    ],
)
def test_what_cannot_be_built_is_refused_when_it_is_asked_for(mixer, where):
    """Not when a run has prepared its data: layers for both, widths of both, and values for a later layer of their kind."""
    with pytest.raises(UsageError) as caught:
        EncoderConfig(width=64, shape=Plain(layers=4), mixer=mixer)
    assert caught.value.where == where
    assert caught.value.fix


def test_it_looks_back_only_if_both_do():
    """Fourier cannot; two kinds of softmax can."""
    assert not Hybrid().traits.causal
    assert Hybrid(lower=Softmax()).traits.causal
    assert Hybrid(upper=UPPER).traits.recalls


@pytest.mark.parametrize(("last", "depth"), [(2, 2), (5, 4), (1, 1)])
def test_layers_must_remain_for_the_lower_mixer(last, depth, make_place):
    """Else it would not be the hybrid that was asked for."""
    with pytest.raises(UsageError, match=f"the last {last} of {depth} layers leave none"):
        Hybrid(last=last).build(make_place(depth=depth, layer=0))
