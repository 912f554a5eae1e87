"""Positions: learned, sinusoidal and scaled sinusoidal tables added to the embedding, and rotary angles for attention.

Sinusoids: Vaswani et al., arXiv 1706.03762; the scaled kind has one learned scalar, initially D^-1/2 (Hua et al.,
arXiv 2202.10447). Rotary: Su et al., arXiv 2104.09864, in the rotate-half layout of Hugging Face models.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpuday.models.visible import places_in_document

ADDED = ("learned", "sinusoidal", "scaled_sinusoidal")


def sinusoids(length: int, width: int) -> Tensor:
    """[length, width] fp32: sines in even columns, cosines in odd ones, wavelengths from 2 pi to 10000 * 2 pi."""
    position = torch.arange(length, dtype=torch.float64)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-torch.log(torch.tensor(1e4)).double() / width))
    table = torch.zeros(length, width, dtype=torch.float64)
    table[:, 0::2], table[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)[:, : width // 2]
    return table.float()


class AddedPositions(nn.Module):
    """x [B, L, D] -> x + table[:L], the table learned, sinusoidal or scaled sinusoidal.

    With segments [B, L] every document of a packed row starts at the table's first entry.
    """

    def __init__(self, length: int, width: int, *, kind: str) -> None:
        super().__init__()
        self.scale: nn.Parameter | None = None
        if kind == "learned":
            self.table: Tensor = nn.Parameter(torch.empty(length, width))
        else:
            self.register_buffer("table", sinusoids(length, width), persistent=False)
            if kind == "scaled_sinusoidal":
                self.scale = nn.Parameter(torch.tensor(width**-0.5))

    def forward(self, x: Tensor, segments: Tensor | None = None) -> Tensor:
        table = self.table[: x.shape[1]]
        if segments is not None:
            table = F.embedding(places_in_document(segments), table)
        return x + (table if self.scale is None else self.scale * table).to(x.dtype)


def rotary_angles(length: int, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin, each [length, head_width] fp32; the second half repeats the first, but that sin's first is negated.

    The sign stands in the table so that a rotation is products and a swap of halves, which compiles to one loop.
    """
    rate = 1.0 / theta ** (torch.arange(0, head_width, 2, dtype=torch.int64).float() / head_width)
    angle = torch.outer(torch.arange(length).float(), rate)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [B, H, L, K] by its position's angles [L, K], in fp32; returned in x's dtype."""
    full = x.float()
    swapped = full.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
    return (full * cos + swapped * sin).to(x.dtype)
