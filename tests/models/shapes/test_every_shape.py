"""What holds for a shape of any kind; a new file in the folder is enrolled by being there."""

import pytest
import torch
from torch import nn

from gpuday.core import parts
from gpuday.models.shapes import Shape
from gpuday.models.visible import Visible

every_shape = pytest.mark.parametrize("name", parts.names(Shape))


class Counting(nn.Module):
    """Changes nothing and counts its calls."""

    calls = 0

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, seen=None):
        Counting.calls += 1
        return x + 1.0


@every_shape
def test_the_depth_is_how_many_blocks_a_token_passes(name, monkeypatch):
    """What FLOPs are counted by."""
    monkeypatch.setattr(Counting, "calls", 0)
    shape = parts.find(Shape, name)()
    shape.build(Counting)(torch.zeros(2, 16, 32), Visible(torch.ones(2, 16, dtype=torch.bool)))
    assert Counting.calls == shape.depth


@every_shape
def test_a_shape_keeps_the_rows_shape(name):
    """[B, L, D] to [B, L, D], with and without padding."""
    stack, x = parts.find(Shape, name)().build(Counting), torch.zeros(2, 16, 32)
    assert stack(x).shape == x.shape
    assert stack(x, Visible(torch.ones(2, 16, dtype=torch.bool))).shape == x.shape
