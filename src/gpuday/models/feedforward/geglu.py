"""Gated linear unit with GELU as the gate's activation (Shazeer, arXiv 2002.05202)."""

from dataclasses import dataclass

from torch import nn

from gpuday.models.feedforward import FeedForward
from gpuday.models.feedforward._networks import Gated


@dataclass(frozen=True, kw_only=True)
class Geglu(FeedForward):
    """W3 (gelu(W1 x) * W2 x), W1 and W2 stored as one matrix."""

    ratio: float = 2.0
    """Hidden width over the model's width."""

    def build(self, width: int, *, bias: bool) -> nn.Module:
        return Gated(width, round(self.ratio * width), "gelu", bias=bias)

    def flops_per_token(self, width: int) -> float:
        return 2 * 3 * width * round(self.ratio * width)
