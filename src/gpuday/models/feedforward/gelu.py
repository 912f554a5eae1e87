"""Two matrices with one activation between them: GELU (Hendrycks & Gimpel, arXiv 1606.08415), as in BERT."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from gpuday.models.feedforward import FeedForward
from gpuday.models.feedforward._networks import Plain


@dataclass(frozen=True, kw_only=True)
class Gelu(FeedForward):
    """W2 gelu(W1 x)."""

    ratio: float = 4.0
    """Hidden width over the model's width."""
    approximate: Literal["none", "tanh"] = "none"
    """The exact error function, or its tanh approximation."""

    def build(self, width: int, *, bias: bool) -> nn.Module:
        name = "gelu" if self.approximate == "none" else "gelu_tanh"
        return Plain(width, round(self.ratio * width), name, bias=bias)

    def flops_per_token(self, width: int) -> float:
        return 2 * 2 * width * round(self.ratio * width)
