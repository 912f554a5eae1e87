"""Gated linear unit with the squared rectifier as the gate's activation.

The unit: Shazeer, arXiv 2002.05202; the activation: Primer, So et al., arXiv 2109.08668.
"""

from dataclasses import dataclass

from torch import nn

from gpuday.models.feedforward import FeedForward
from gpuday.models.feedforward._networks import Gated


@dataclass(frozen=True, kw_only=True)
class Relu2Glu(FeedForward):
    """W3 (relu(W1 x)^2 * W2 x), W1 and W2 stored as one matrix."""

    ratio: float = 2.0
    """Hidden width over the model's width."""

    def build(self, width: int, *, bias: bool) -> nn.Module:
        return Gated(width, round(self.ratio * width), "relu2", bias=bias)

    def flops_per_token(self, width: int) -> float:
        return 2 * 3 * width * round(self.ratio * width)
