"""Fourier mixing: the real part of a discrete Fourier transform along positions and width, without a parameter.

FNet (Lee-Thorp et al., arXiv 2105.03824). By products with tables of cosines and sines, O(L^2 D + L D^2), which is exact,
compiles without complex numbers and runs at the speed of matrix products. Each document of a row is transformed by
itself where they are kept apart; padding is left out, as if the row ended before it, and answers zero.

Shapes: B rows, L positions, D width.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpuday.core.errors import UsageError
from gpuday.models.mixers import Mixer, Place, Traits
from gpuday.models.visible import Visible

SHORT = 1 << 15  # a product of two positions below it is a 32-bit number


@dataclass(frozen=True, kw_only=True)
class Fourier(Mixer):
    """Re(F_n X F_D) for the n positions of a document."""

    unitary: bool = True
    """Times (n D)^-1/2, which keeps the size of the input; FNet leaves that out and norms after each residual."""

    @property
    def traits(self) -> Traits:
        return Traits(causal=False, scored=False)

    def check(self, *, width: int, layers: int) -> None:
        """Any will do."""

    def resized(self, layers: int, *, before: int) -> Mixer:
        return self

    def build(self, place: Place) -> nn.Module:
        return FourierMixing(self)

    def flops_per_token(self, place: Place) -> float:
        return 2 * 2 * place.width**2 + 2 * 2 * place.length * place.width


class FourierMixing(nn.Module):
    """(x [B, L, D], what is seen) -> [B, L, D]: C_n X C_D - S_n X S_D, products in x's dtype, their sums in fp32."""

    def __init__(self, config: Fourier) -> None:
        super().__init__()
        self.unitary = config.unitary

    def forward(self, x: Tensor, seen: Visible) -> Tensor:
        if seen.causal:
            raise UsageError("Fourier mixing cannot keep from looking ahead", where="model.mixer", fix="choose softmax")
        l, d = x.shape[1:]

        def made(length: int, same: Tensor | None) -> tuple[Tensor, Tensor]:
            cos, sin = tables(length, same, unitary=self.unitary, device=x.device)
            return cos.to(x.dtype), sin.to(x.dtype)

        kind = (x.dtype, self.unitary)  # layers of equal kind share the tables as they multiply by them
        cos_d, sin_d = seen.once(("fourier across", d, kind), lambda: made(d, None))
        cos_n, sin_n = seen.once(("fourier along", kind), lambda: made(l, same_document(seen)))
        mixed: Tensor = cos_n @ (x @ cos_d) - sin_n @ (x @ sin_d)
        return mixed


def tables(length: int, same: Tensor | None, *, unitary: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi i j / n where positions are the i-th and j-th of the same n, zero elsewhere; fp32.

    Both times n^-1/2 if unitary. same [B, L, L] bool -> that shape; None, one document of the whole length -> [L, L].
    Whole turns are taken off in integers: exact.
    """
    if same is None:
        place = torch.arange(length, device=device)
        n: Tensor = torch.full((1, 1), length, device=device)
    else:
        place, n = same.tril(-1).sum(-1), same.sum(-1, keepdim=True).clamp(min=1)
    if length <= SHORT:  # half the memory of what is largest here
        place, n = place.int(), n.int()
    angle = 2.0 * math.pi * ((place[..., :, None] * place[..., None, :]) % n).float() / n
    scale = n.float().rsqrt() if unitary else 1.0
    cos, sin = (scale * angle.cos(), scale * angle.sin())
    return (cos, sin) if same is None else (cos * same, sin * same)


def same_document(seen: Visible) -> Tensor | None:
    """Which positions are real and of one document: bool [B, L, L]; None where all are."""
    if seen.segments is None and seen.mask is None:
        return None
    same = None if seen.segments is None else seen.segments[:, :, None] == seen.segments[:, None, :]
    if seen.mask is None:
        return same
    real = seen.mask[:, :, None] & seen.mask[:, None, :]
    return real if same is None else same & real
