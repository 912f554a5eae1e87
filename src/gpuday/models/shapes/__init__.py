"""Kinds of stacks: how blocks follow one another."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from gpuday.core.parts import Part

MOST_LAYERS = 1000


@dataclass(frozen=True)
class Pass:
    """One passage through a block."""

    layer: int
    """Number of the block, which has weights of its own."""
    shrink: int = 1
    """How many positions of the row share one of those that the block sees."""


class Shape(Part, ABC):
    """Builds a module: (x [B, L, D], a `Visible`) -> [B, L, D], from a factory of blocks by layer."""

    @property
    @abstractmethod
    def passes(self) -> tuple[Pass, ...]:
        """Passages through blocks in their order; blocks are numbered from 0 on as they first occur."""

    @abstractmethod
    def build(self, block: Callable[[int], nn.Module]) -> nn.Module: ...

    @property
    def depth(self) -> int:
        """How many blocks a token passes through, repetitions counted."""
        return len(self.passes)

    @property
    def blocks(self) -> int:
        """How many blocks have weights of their own."""
        return len({passed.layer for passed in self.passes})

    def lengths(self, length: int) -> dict[int, int]:
        """How many positions each block sees of rows of so many, by its number."""
        return {passed.layer: length // passed.shrink for passed in self.passes}

    @property
    def ends_whole(self) -> bool:
        """Whether the last block sees every position."""
        return self.passes[-1].shrink == 1

    @property
    def multiple(self) -> int:
        """What lengths must be a multiple of; above 1, positions are pooled."""
        return max(passed.shrink for passed in self.passes)
