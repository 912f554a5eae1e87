"""Averaged rows: who is averaged with whom, and what comes back at full length."""

import pytest
import torch
from torch import nn

from gpuday.core.errors import UsageError
from gpuday.models.encoder import Encoder
from gpuday.models.flops import forward_per_token
from gpuday.models.shapes import Pass
from gpuday.models.shapes.funnel import Funnel, mean_of_groups
from gpuday.models.shapes.plain import Plain
from gpuday.models.visible import Visible


class Same(nn.Module):
    """Hands on what it is given, and writes down what was told to be seen."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, seen):
        self.seen = seen
        return x


def test_neighbours_are_averaged_and_stretched_back_in_their_order():
    """Rows of 1, 2, ..., 8 through blocks that do nothing: each position plus the mean of its own group of four."""
    x = torch.arange(1.0, 9.0).view(1, 8, 1)
    out = Funnel(stages=(1, 1, 1), factor=2, decoder=1).build(Same)(x, Visible())
    assert out.flatten().tolist() == [3.5, 4.5, 5.5, 6.5, 11.5, 12.5, 13.5, 14.5]
    without = Funnel(stages=(1, 1), factor=4, decoder=0).build(Same)(x, Visible())
    assert torch.equal(without, out)


def test_in_a_u_each_length_is_added_on_the_way_back():
    """Rows of 1, 2, ..., 8 once more: pairs are the means of two plus that of their four, positions add both."""
    x = torch.arange(1.0, 9.0).view(1, 8, 1)
    out = Funnel(stages=(1, 1, 1), factor=2, decoder=1, stepwise=True).build(Same)(x, Visible())
    pairs = [1.5 + 2.5, 3.5 + 2.5, 5.5 + 6.5, 7.5 + 6.5]
    assert out.flatten().tolist() == [i + 1.0 + pairs[i // 2] for i in range(8)]


def test_a_u_has_the_lengths_of_the_paper():
    """128, 128, 64, 64, 32, 64, 64, 128, 128 positions."""
    funnel = Funnel(stages=(2, 2, 1), decoder=2, stepwise=True)
    assert [funnel.lengths(128)[passed.layer] for passed in funnel.passes] == [128, 128, 64, 64, 32, 64, 64, 128, 128]


def test_only_real_positions_are_averaged():
    """Padding has no share in a mean; a group of padding alone is zero, and unseen."""
    x = torch.arange(1.0, 9.0).view(1, 8, 1)
    mask = torch.tensor([[True, True, True, False, False, False, False, False]])
    assert mean_of_groups(x, mask, 2).flatten().tolist() == [1.5, 3.0, 0.0, 0.0]
    stack, seen = Funnel(stages=(1, 1), factor=2, decoder=1).build(Same), Visible(mask)
    stack(x, seen)
    told = [block.seen for block in stack.blocks]
    assert told[0] is told[2] is seen
    assert told[1].mask.tolist() == [[True, True, False, False]]


def test_means_are_taken_along_positions_whatever_stands_before_them():
    """[B, H, L, K] like [B, L, D]: by the last axis but one, with the mask of the row."""
    x = torch.randn(2, 3, 8, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([8 * [True], 5 * [True] + 3 * [False]])
    whole = mean_of_groups(x, mask, 4)
    for head in range(3):
        torch.testing.assert_close(whole[:, head], mean_of_groups(x[:, head], mask, 4))
    torch.testing.assert_close(whole[1, 0, 1], x[1, 0, 4])


def test_what_was_kept_is_averaged_with_the_rows():
    """Blocks on short rows find the stack's input as short as their own; those at full length find it whole."""
    x = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    stack, seen = Funnel(stages=(1, 1, 1), factor=2, decoder=1).build(Same), Visible()
    seen.kept["x0"] = x
    stack(x, seen)
    lengths = [block.seen.kept["x0"].shape[1] for block in stack.blocks]
    assert lengths == [8, 4, 2, 8]
    torch.testing.assert_close(stack.blocks[2].seen.kept["x0"], x.view(2, 2, 4, 4).mean(2))


def test_passes_of_a_funnel_by_hand():
    """Two blocks at full length, three at a third, one at a ninth, two at full length again."""
    funnel = Funnel(stages=(2, 3, 1), factor=3, decoder=2)
    assert funnel.passes == tuple(Pass(i, shrink) for i, shrink in enumerate([1, 1, 3, 3, 3, 9, 1, 1]))
    assert (funnel.depth, funnel.blocks, funnel.multiple) == (8, 8, 9)


def test_shorter_stages_cost_less(make_config):
    """Blocks on half the positions have half the FLOPs of their products, and less of attention."""
    plain, funnel = (
        forward_per_token(make_config(shape=shape), vocab=50, length=64, predicted_share=0.0)
        for shape in (Plain(layers=4), Funnel(stages=(1, 2), factor=2, decoder=1))
    )
    assert 0.5 * plain < funnel < 0.75 * plain


def test_a_length_that_groups_do_not_divide_is_refused(make_config):
    """When the model is built, with the multiple to take."""
    with pytest.raises(UsageError, match="averages over 4") as caught:
        Encoder(make_config(shape=Funnel(stages=(1, 1), factor=4)), vocab=8, length=18)
    assert caught.value.where == "data.length"
    with pytest.raises(UsageError, match="cannot be averaged over 2"):
        Funnel().build(Same)(torch.zeros(1, 7, 2), Visible())


@pytest.mark.parametrize("seen", [{"segments": torch.zeros(1, 16, dtype=torch.int32)}, {"causal": True}])
def test_documents_and_directions_are_refused(seen):
    """An average over two documents, or over what is to come, would let through what must not be seen."""
    with pytest.raises(UsageError, match="neither keep documents apart nor look back only"):
        Funnel().build(Same)(torch.zeros(1, 16, 2), Visible(**seen))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"stages": (4,)}, "stages"),
        ({"stages": (2, 0)}, "stages"),
        ({"stages": (1,) * 12}, "stages"),
        ({"factor": 1}, "factor"),
        ({"decoder": -1}, "decoder"),
    ],
)
def test_what_is_no_funnel_is_refused(changes, where):
    """With the key and the fix."""
    with pytest.raises(UsageError) as caught:
        Funnel(**changes)
    assert caught.value.where == f"model.shape.{where}"
    assert caught.value.fix
