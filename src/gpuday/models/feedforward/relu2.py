"""Two matrices with a squared rectifier between them (Primer: So et al., arXiv 2109.08668)."""

from dataclasses import dataclass

from torch import nn

from gpuday.models.feedforward import FeedForward
from gpuday.models.feedforward._networks import Plain


@dataclass(frozen=True, kw_only=True)
class Relu2(FeedForward):
    """W2 relu(W1 x)^2."""

    ratio: float = 4.0
    """Hidden width over the model's width."""

    def build(self, width: int, *, bias: bool) -> nn.Module:
        return Plain(width, round(self.ratio * width), "relu2", bias=bias)

    def flops_per_token(self, width: int) -> float:
        return 2 * 2 * width * round(self.ratio * width)
