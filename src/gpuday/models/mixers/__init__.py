"""Kinds of layers that mix information between positions."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import nn

from gpuday.core.parts import Part


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a mixer is told of the block it sits in.

    The model's width, the number of the layer (from 0) and of all layers, the longest row, whether the projections of
    the input and all others have biases, the kind of positions, and the probability of dropout.
    """

    width: int
    layer: int
    depth: int
    length: int
    qkv_bias: bool
    bias: bool
    position: str
    dropout: float


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a mixer asks of the model around it, and what the model may ask of it."""

    causal: bool
    """Whether its layers can keep from looking ahead, where what is seen is causal."""
    scored: bool
    """Whether it weighs pairs of positions by scores, which rotary positions and ALiBi act on."""
    recalls: bool = False
    """Whether later layers read what the first one left: blocks must be passed once, at full length."""
    unit: int = 1
    """What the model's width must be a multiple of."""
    asked: bool = False
    """Whether its layers take a third argument, places [B, A] of each row, and then answer [B, A, D] for those alone."""


class Mixer(Part, ABC):
    """Builds a module: (x [B, L, D], a `Visible`) -> [B, L, D]; see also `Traits.asked`."""

    @property
    @abstractmethod
    def traits(self) -> Traits: ...

    @abstractmethod
    def check(self, *, width: int, layers: int) -> None:
        """Refuse, with the fix, a model of such a width or of so many layers, where it could not be mixed by this."""

    @abstractmethod
    def resized(self, layers: int, *, before: int) -> "Mixer":
        """What comes closest to it in a model of so many layers, where it is one for `before` of them."""

    @abstractmethod
    def build(self, place: Place) -> nn.Module: ...

    @abstractmethod
    def flops_per_token(self, place: Place) -> float:
        """Forward FLOPs of one token in this layer, two for each multiply-add."""
