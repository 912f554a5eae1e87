"""The two networks that the feed-forward parts of this folder name: plain and gated."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from gpuday.models.linear import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "relu2": lambda x: F.relu(x).square(),
}


class Plain(nn.Module):
    """x [..., D] -> down(activation(up(x))) [..., D], hidden width F."""

    def __init__(self, width: int, hidden: int, activation: str, *, bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.up = Linear(width, hidden, bias=bias)
        self.down = Linear(hidden, width, bias=bias, output=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(ACTIVATIONS[self.activation](self.up(x)))


class Gated(nn.Module):
    """x [..., D] -> down(activation(a) * b) [..., D] with [a, b] = up(x), each of hidden width F."""

    def __init__(self, width: int, hidden: int, activation: str, *, bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.up = Linear(width, 2 * hidden, bias=bias, fused=2)
        self.down = Linear(hidden, width, bias=bias, output=True)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.up(x).chunk(2, dim=-1)
        return self.down(ACTIVATIONS[self.activation](a) * b)
