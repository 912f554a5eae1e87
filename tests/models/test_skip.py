"""Connections that pass over blocks: the formula, and which blocks they join."""

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.models.encoder import Encoder
from gpuday.models.shapes.funnel import Funnel
from gpuday.models.shapes.plain import Plain
from gpuday.models.shapes.recurrent import Recurrent
from gpuday.models.skip import InputSkip, MirrorSkip, build_skip
from gpuday.models.visible import Visible

IDS = torch.randint(0, 50, (2, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make_pair(make_config, scatter):
    """An encoder with a skip, and the one without it that has the same weights."""

    def make(skip, layers):
        plain, skipping = (
            scatter(Encoder(make_config(shape=Plain(layers=layers), skip=kind), vocab=50, length=16))
            for kind in ("none", skip)
        )
        plain.load_state_dict(skipping.state_dict(), strict=False)
        return plain, skipping

    return make


def set_skips(encoder, value):
    with torch.no_grad():
        for block in encoder.stack.blocks:
            if block.skip is not None:
                block.skip.weight.copy_(torch.tensor(value))


def test_the_input_begins_with_no_share():
    """Factors 1 and 0: a x + b x0."""
    skip, seen = InputSkip(), Visible()
    seen.kept["x0"] = torch.tensor([[[10.0, 20.0]]])
    x = torch.tensor([[[1.0, 2.0]]])
    assert torch.equal(skip(x, seen), x)
    skip.load_state_dict({"weight": torch.tensor([0.5, 2.0])})
    assert skip(x, seen).tolist() == [[[20.5, 41.0]]]


@pytest.mark.parametrize("kind", ["x0", "unet"])
def test_a_skip_without_weight_is_none(kind, make_pair):
    """With (1, 0), or a mirror's 0, the model is the plain one; otherwise it is not."""
    plain, skipping = make_pair(kind, 4)
    assert not torch.allclose(skipping(IDS), plain(IDS), atol=0.1)
    set_skips(skipping, [1.0, 0.0] if kind == "x0" else 0.0)
    torch.testing.assert_close(skipping(IDS), plain(IDS))


@pytest.mark.parametrize(
    ("blocks", "expected"), [(1, [None]), (2, [None, 0]), (4, [None, None, 1, 0]), (5, [None, None, None, 1, 0])]
)
def test_a_mirror_joins_the_second_half_to_the_first(blocks, expected):
    """Last to first, and so on inward; a block in the middle has no image."""
    skips = [build_skip("unet", layer, blocks) for layer in range(blocks)]
    assert [None if skip is None else int(skip.name.split()[-1]) for skip in skips] == expected


def test_a_mirror_adds_the_output_of_the_first_blocks(make_pair):
    """Written out for three blocks: the last one gets the second's output and the first one's, weighted."""
    _, skipping = make_pair("unet", 3)
    set_skips(skipping, 0.7)
    first, second, third = skipping.stack.blocks
    x, seen = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(1)), Visible()
    out = skipping.stack(x, seen)
    one = first(x, Visible())
    two = second(one, Visible())
    third.skip = None
    torch.testing.assert_close(out, third(two + 0.7 * one, Visible()))


def test_a_mirror_begins_with_full_weight():
    """One learned scalar, 1."""
    assert [(n, p.item()) for n, p in MirrorSkip(0).named_parameters()] == [("weight", 1.0)]


@pytest.mark.parametrize("kind", ["x0", "unet"])
def test_weights_are_not_rounded_to_the_dtype_of_the_activations(kind):
    """1.003 is 1 in bf16: a sum of many small steps would never leave it."""
    seen = Visible()
    seen.kept |= {"x0": torch.zeros(1, 1, 8).bfloat16(), "block 0": torch.full((1, 1, 8), 1.0).bfloat16()}
    skip = InputSkip() if kind == "x0" else MirrorSkip(0)
    with torch.no_grad():
        skip.weight.copy_(torch.tensor([1.003, 0.0] if kind == "x0" else 1.003))
    x = torch.full((1, 1, 8), 255.0 if kind == "x0" else 0.0).bfloat16()
    out = skip(x, seen)
    assert out.dtype == torch.bfloat16
    exact = torch.tensor(1.003 * 255.0 if kind == "x0" else 1.003)
    assert torch.equal(out, exact.bfloat16().expand(1, 1, 8))


@pytest.mark.parametrize("shape", [Recurrent(layers=2, repeats=2), Funnel()], ids=["recurrent", "funnel"])
def test_a_mirror_is_refused_where_blocks_have_no_image(shape, make_config):
    """Repeated blocks have several outputs, pooled ones shorter ones."""
    with pytest.raises(UsageError, match="passed once, at full length") as caught:
        make_config(shape=shape, skip="unet")
    assert caught.value.where == "model.skip"
