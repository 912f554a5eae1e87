"""Positions: learned, sinusoidal and scaled sinusoidal tables added to the embedding, and rotary angles for attention.

Sinusoids: Vaswani et al., arXiv 1706.03762; the scaled kind has one learned scalar, initially D^-1/2 (Hua et al.,
arXiv 2202.10447). Rotary: Su et al., arXiv 2104.09864, in the rotate-half layout of Hugging Face models.
"""

import torch
from torch import Tensor, nn


def sinusoids(length: int, width: int) -> Tensor:
    """[length, width] fp32: sines in even columns, cosines in odd ones, wavelengths from 2 pi to 10000 * 2 pi."""
    position = torch.arange(length, dtype=torch.float64)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-torch.log(torch.tensor(1e4)).double() / width))
    table = torch.zeros(length, width, dtype=torch.float64)
    table[:, 0::2], table[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)[:, : width // 2]
    return table.float()


class AddedPositions(nn.Module):
    """x [B, L, D] -> x + table[:L], the table learned, sinusoidal or scaled sinusoidal."""

    def __init__(self, length: int, width: int, *, kind: str) -> None:
        super().__init__()
        self.scale: nn.Parameter | None = None
        if kind == "learned":
            self.table: Tensor = nn.Parameter(torch.empty(length, width))
        else:
            self.register_buffer("table", sinusoids(length, width), persistent=False)
            if kind == "scaled_sinusoidal":
                self.scale = nn.Parameter(torch.tensor(width**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        table = self.table[: x.shape[1]]
        return x + (table if self.scale is None else self.scale * table).to(x.dtype)


def rotary_angles(length: int, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin, each [length, head_width] fp32, the second half repeating the first."""
    rate = 1.0 / theta ** (torch.arange(0, head_width, 2, dtype=torch.int64).float() / head_width)
    angle = torch.outer(torch.arange(length).float(), rate)
    both = torch.cat((angle, angle), dim=-1)
    return both.cos(), both.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [B, H, L, K] by its position's angles [L, K], in fp32; returned in x's dtype."""
    full = x.float()
    a, b = full.chunk(2, dim=-1)
    return (full * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)
