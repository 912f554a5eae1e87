"""The gated attention unit with all pairs, FLASH-Quad, O(L^2): attention with one narrow head and the gate of a GLU.

Hua et al., arXiv 2202.10447. It stands for attention and feed-forward network at once: the paper takes two of these for
one layer of both. Here without the paper's bias for relative positions, in whose place stand rotary ones or ALiBi; and the
scales of queries and keys begin at one, since products of its small ones would leave nothing to learn from without it.
Pairs hold three times the memory of a layer of softmax attention, which keeps none.

Shapes: B rows, L positions, D width, E = ratio D, S the head's width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpuday.core.errors import within
from gpuday.models.attention import where_allowed
from gpuday.models.linear import Linear
from gpuday.models.mixers import Mixer, Place, Traits
from gpuday.models.mixers._heads import OtherWeights, Positions, check_head_width, keys_in_sight
from gpuday.models.visible import Visible


@dataclass(frozen=True, kw_only=True)
class FlashQuad(Mixer):
    """W_o (u * relu(q k^T / n)^2 v) with u, v, z = silu(W x) and q, k each z scaled and shifted by itself."""

    ratio: float = 2.0
    """Width of gate and values over the model's width."""
    head_width: int = 128
    """Width of z, queries and keys."""
    theta: float = 10000.0
    """Base of the rotary wavelengths, when positions are rotary."""

    def __post_init__(self) -> None:
        check_head_width(self.head_width)
        within("model.mixer", ratio=(self.ratio, 0.01, 64.0))

    @property
    def traits(self) -> Traits:
        return Traits(causal=True, scored=True)

    def check(self, *, width: int, layers: int) -> None:
        """Any will do."""

    def resized(self, layers: int, *, before: int) -> Mixer:
        return self

    def build(self, place: Place) -> nn.Module:
        return GatedAttentionUnit(self, place)

    def flops_per_token(self, place: Place) -> float:
        wide = round(self.ratio * place.width)
        projections = 2 * place.width * (3 * wide + self.head_width)
        return projections + 2 * place.length * (self.head_width + wide)


class GatedAttentionUnit(nn.Module):
    """(x [B, L, D], what is seen) -> [B, L, D]."""

    def __init__(self, config: FlashQuad, place: Place) -> None:
        super().__init__()
        wide, narrow = round(config.ratio * place.width), config.head_width
        self.up = Linear(place.width, 2 * wide, bias=place.qkv_bias, fused=2)
        self.narrow = Linear(place.width, narrow, bias=place.qkv_bias)
        self.out = Linear(wide, place.width, bias=place.bias, output=True)
        self.q_scale, self.k_scale = nn.Parameter(torch.ones(narrow)), nn.Parameter(torch.ones(narrow))
        self.q_shift, self.k_shift = nn.Parameter(torch.zeros(narrow)), nn.Parameter(torch.zeros(narrow))
        self.positions = Positions(place, heads=1, head_width=narrow, theta=config.theta)
        self.weights = OtherWeights(SquaredScores(narrow), dropout=place.dropout)

    def forward(self, x: Tensor, seen: Visible) -> Tensor:
        u, v = F.silu(self.up(x)).chunk(2, dim=-1)
        z = F.silu(self.narrow(x))[:, None].float()  # bf16 would round a scale of 1.003 to 1
        q, k = z * self.q_scale + self.q_shift, z * self.k_scale + self.k_shift
        q, k = self.positions(q.to(x.dtype), k.to(x.dtype))
        mixed = self.weights(q, k, v[:, None], seen, self.positions.slopes)
        return self.out(u * mixed[:, 0])


class SquaredScores(nn.Module):
    """Scores s = q k / sqrt(S) to relu(q k / n)^2 over the n keys in sight."""

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.root = head_width**0.5

    def forward(self, scores: Tensor, allowed: Tensor | None) -> Tensor:
        return where_allowed(F.relu(scores * self.root / keys_in_sight(scores, allowed)).square(), allowed)
