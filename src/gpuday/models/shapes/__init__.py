"""Kinds of stacks: how blocks follow one another."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import nn

from gpuday.core.parts import Part


class Shape(Part, ABC):
    """Builds a module: (x [B, L, D], a `Visible` or None) -> [B, L, D], from a factory of blocks by layer."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many blocks a token passes through."""

    @abstractmethod
    def build(self, block: Callable[[int], nn.Module]) -> nn.Module: ...
