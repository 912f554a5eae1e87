"""A few blocks passed through again and again, at a depth that is fixed (Lan et al., arXiv 1909.11942: ALBERT).

The Universal Transformer (Dehghani et al., arXiv 1807.03819) without its halting and its time signal.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from gpuday.core.errors import within
from gpuday.models.shapes import MOST_LAYERS, Pass, Shape
from gpuday.models.visible import Visible


@dataclass(frozen=True, kw_only=True)
class Recurrent(Shape):
    """`layers` blocks in a row, `repeats` times with the same weights."""

    layers: int = 1
    """Number of blocks with weights of their own."""
    repeats: int = 4
    """How often they are passed through; 1 is the plain shape."""

    def __post_init__(self) -> None:
        within("model.shape", layers=(self.layers, 1, MOST_LAYERS), repeats=(self.repeats, 1, MOST_LAYERS))

    @property
    def passes(self) -> tuple[Pass, ...]:
        return tuple(Pass(layer) for _ in range(self.repeats) for layer in range(self.layers))

    def build(self, block: Callable[[int], nn.Module]) -> nn.Module:
        return RecurrentStack([block(i) for i in range(self.layers)], self.repeats)


class RecurrentStack(nn.Module):
    """(x [B, L, D], what is seen) -> [B, L, D]."""

    def __init__(self, blocks: list[nn.Module], repeats: int) -> None:
        super().__init__()
        self.blocks, self.repeats = nn.ModuleList(blocks), repeats

    def forward(self, x: Tensor, seen: Visible) -> Tensor:
        for repeat in range(self.repeats):
            seen.repeat = repeat
            for block in self.blocks:
                x = block(x, seen)
        return x
