"""What holds for a mixer of any kind; a new file in the folder is enrolled by being there."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gpuday.core import parts
from gpuday.models.mixers import Mixer
from gpuday.models.visible import Visible

every_mixer = pytest.mark.parametrize("name", parts.names(Mixer))


@every_mixer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mixer_keeps_shape_and_dtype(name, dtype, make_place, scatter):
    """[B, L, D] to [B, L, D], for rows of full length and shorter."""
    mixer = scatter(parts.find(Mixer, name)().build(make_place(width=64)))
    for length in (16, 5):
        x = torch.randn(2, length, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
        assert (mixer(x).shape, mixer(x).dtype) == (x.shape, dtype)


@every_mixer
def test_rows_do_not_mix(name, make_place, scatter):
    """A row's answer is the same beside any other row."""
    mixer = scatter(parts.find(Mixer, name)().build(make_place(width=64)))
    x = torch.randn(3, 16, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixer(x)[1:2], mixer(x[1:2]), atol=1e-5, rtol=1e-5)


@every_mixer
def test_a_mixer_does_not_look_at_padding(name, make_place, scatter):
    """Real positions answer the same whatever the masked ones hold."""
    mixer = scatter(parts.find(Mixer, name)().build(make_place(width=64)))
    x = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(16) < 10).expand(2, -1)
    seen = Visible(mask)
    torch.testing.assert_close(mixer(torch.where(mask[..., None], x, 9.0), seen)[:, :10], mixer(x, seen)[:, :10])


@every_mixer
def test_a_mixer_keeps_documents_apart_where_it_is_told_to(name, make_place, scatter):
    """With segments, what stands in one document shows in no other one of the row."""
    mixer = scatter(parts.find(Mixer, name)().build(make_place(width=64)))
    x = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(0))
    first = (torch.arange(16) < 10).expand(2, -1)
    seen = Visible(segments=(~first).int())
    torch.testing.assert_close(mixer(torch.where(first[..., None], x, 9.0), seen)[:, :10], mixer(x, seen)[:, :10])
    assert not torch.allclose(mixer(torch.where(first[..., None], x, 9.0))[:, :10], mixer(x)[:, :10], atol=1e-2)


@every_mixer
def test_a_mixer_mixes(name, make_place, scatter):
    """A change at one position shows at another."""
    mixer = scatter(parts.find(Mixer, name)().build(make_place(width=64)))
    x = torch.randn(1, 16, 64, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[0, 3] += 1.0
    assert (mixer(changed) - mixer(x))[0, 4].abs().max() > 1e-3


@every_mixer
def test_the_flops_formula_is_what_torch_counts(name, make_place):
    """Every matrix product of a global layer's forward pass, as torch's own counter sees them."""
    place = make_place(width=64, bias=False)
    mixer, config = parts.find(Mixer, name)().build(place), parts.find(Mixer, name)()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        mixer(torch.zeros(3, 16, 64))
    assert counter.get_total_flops() == config.flops_per_token(place) * 3 * 16
