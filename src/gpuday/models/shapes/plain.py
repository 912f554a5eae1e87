"""Blocks one after another, each with its own weights (Vaswani et al., arXiv 1706.03762)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from gpuday.core.errors import within
from gpuday.models.shapes import MOST_LAYERS, Pass, Shape
from gpuday.models.visible import Visible


@dataclass(frozen=True, kw_only=True)
class Plain(Shape):
    """`layers` blocks in a row."""

    layers: int = 4
    """Number of blocks."""

    def __post_init__(self) -> None:
        within("model.shape", layers=(self.layers, 1, MOST_LAYERS))

    @property
    def passes(self) -> tuple[Pass, ...]:
        return tuple(Pass(layer) for layer in range(self.layers))

    def build(self, block: Callable[[int], nn.Module]) -> nn.Module:
        return PlainStack([block(i) for i in range(self.layers)])


class PlainStack(nn.Module):
    """(x [B, L, D], what is seen) -> [B, L, D]."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, seen: Visible) -> Tensor:
        for block in self.blocks:
            x = block(x, seen)
        return x
