"""Kinds of position-wise feed-forward networks."""

from abc import ABC, abstractmethod

from torch import nn

from gpuday.core.parts import Part


class FeedForward(Part, ABC):
    """Builds a module: x [B, L, D] -> [B, L, D]."""

    @abstractmethod
    def build(self, width: int, *, bias: bool) -> nn.Module: ...

    @abstractmethod
    def flops_per_token(self, width: int) -> float:
        """Forward FLOPs of one token, two for each multiply-add."""
