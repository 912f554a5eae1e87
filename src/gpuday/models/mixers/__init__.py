"""Kinds of layers that mix information between positions."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import nn

from gpuday.core.parts import Part


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a mixer is told of the block it sits in."""

    width: int
    layer: int
    length: int
    bias: bool
    rotary: bool
    dropout: float


class Mixer(Part, ABC):
    """Builds a module: (x [B, L, D], a `Visible`, or None where all see all) -> [B, L, D]."""

    @abstractmethod
    def build(self, place: Place) -> nn.Module: ...

    @abstractmethod
    def flops_per_token(self, place: Place) -> float:
        """Forward FLOPs of one token in this layer, two for each multiply-add."""
