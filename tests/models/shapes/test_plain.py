"""A plain stack is its blocks, one after another."""

import pytest
import torch
from torch import nn

from gpuday.models.shapes.plain import Plain
from gpuday.models.visible import Visible


class Affine(nn.Module):
    """x -> 10 x + layer, and remembers what it was told is seen."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.weight = layer, nn.Parameter(torch.ones(2, 2))

    def forward(self, x, seen):
        self.seen = seen
        return 10 * x + self.layer


def test_blocks_follow_one_another_from_layer_zero_on():
    """Digits of the answer are the layers in order."""
    assert Plain(layers=4).build(Affine)(torch.tensor(0.0), Visible()).item() == 123.0
    assert Plain(layers=3).build(Affine)(torch.tensor(7.0), Visible()).item() == 7012.0


def test_every_block_is_told_what_is_seen():
    """Not only the first."""
    stack, seen = Plain(layers=3).build(Affine), Visible(torch.tensor([[True]]))
    stack(torch.tensor(0.0), seen)
    assert all(block.seen is seen for block in stack.blocks)


@pytest.mark.parametrize("layers", [1, 5])
def test_every_block_has_weights_of_its_own(layers):
    """No sharing: as many parameters as layers, and the depth says so."""
    assert len(list(Plain(layers=layers).build(Affine).parameters())) == layers
    assert Plain(layers=layers).depth == layers
