"""What the mixers with scores share: projections, norms of queries and keys, positions, gate; how pairs are weighed is given.

Shapes: B rows, L positions, D width, H heads of width K, D = H K. Where places `asked` [B, A] of each row are given,
queries are those of A positions, and so are answers.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpuday.core.errors import UsageError
from gpuday.models.attention import Weigh, alibi_slopes, attend, explicit, linear_biases, of_queries, where_allowed
from gpuday.models.linear import Linear
from gpuday.models.mixers import Mixer, Place, Traits
from gpuday.models.position import rotary_angles, rotate
from gpuday.models.visible import Visible, at_places

HeadNorm = Literal["none", "rms", "layer"]


def check_head_width(head_width: int) -> None:
    """Refuse a head width that rotary positions cannot split in halves."""
    if head_width < 2 or head_width % 2:
        raise UsageError(
            f"head_width is {head_width}", where="model.mixer.head_width", fix="give an even number, such as 64"
        )


def heads_of(width: int, head_width: int) -> int:
    """How many heads fill the model's width."""
    if width % head_width:
        raise UsageError(
            f"width {width} is not a multiple of head_width {head_width}",
            where="model.mixer.head_width",
            fix="choose a head width that divides the width",
        )
    return width // head_width


def attention_flops(place: Place, keys: int) -> float:
    """Forward FLOPs a token of `MultiHead` without a gate: four projections, scores and answer over so many keys."""
    return 2 * 4 * place.width**2 + 2 * 2 * keys * place.width


class AllPairs(Mixer):
    """Mixers of several heads that weigh every pair of positions, alike in each layer and at any depth."""

    head_width: int

    def __post_init__(self) -> None:
        check_head_width(self.head_width)

    @property
    def traits(self) -> Traits:
        return Traits(causal=True, scored=True, unit=self.head_width, asked=True)

    def check(self, *, width: int, layers: int) -> None:
        heads_of(width, self.head_width)

    def resized(self, layers: int, *, before: int) -> Mixer:
        return self

    def flops_per_token(self, place: Place) -> float:
        return attention_flops(place, place.length)


class Positions(nn.Module):
    """Rotates queries and keys [B, H, L, K] where positions are rotary; holds the heads' `slopes` where they are ALiBi."""

    def __init__(self, place: Place, *, heads: int, head_width: int, theta: float) -> None:
        super().__init__()
        self.rotary = place.position == "rotary"
        if self.rotary:
            cos, sin = rotary_angles(place.length, head_width, theta)
            self.cos: Tensor
            self.sin: Tensor
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)
        self.slopes: Tensor | None
        slopes = alibi_slopes(heads) if place.position == "alibi" else None
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, q: Tensor, k: Tensor, asked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not self.rotary:
            return q, k
        l = k.shape[2]
        cos, sin = self.cos[:l], self.sin[:l]
        of_q = (cos, sin) if asked is None else (cos[asked][:, None], sin[asked][:, None])
        return rotate(q, *of_q), rotate(k, cos, sin)


class SoftmaxWeights(nn.Module):
    """(q, k, v [B, H, L, K], what is seen, slopes) -> [B, H, L, K] by softmax; `models/kernels.py` finds layers by this."""

    def __init__(self, *, head_width: int, dropout: float, reach: int | None = None, cap: float = 0.0) -> None:
        super().__init__()
        self.head_width, self.dropout, self.reach, self.cap = head_width, dropout, reach, cap

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, seen: Visible, slopes: Tensor | None, asked: Tensor | None = None
    ) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        return attend(q, k, v, seen, reach=self.reach, dropout=dropout, cap=self.cap, slopes=slopes, asked=asked)


class OtherWeights(nn.Module):
    """(q, k [B, H, L, K], v [B, H, L, E], what is seen, slopes) -> [B, H, L, E] by weights that `weigh` makes of scores."""

    def __init__(self, weigh: Weigh, *, dropout: float) -> None:
        super().__init__()
        self.weigh, self.dropout = weigh, dropout

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, seen: Visible, slopes: Tensor | None, asked: Tensor | None = None
    ) -> Tensor:
        length = k.shape[2]
        allowed = of_queries(seen.pairs(None, length, q.device), asked)
        biases = of_queries(None if slopes is None else linear_biases(slopes, seen, length), asked)
        dropout = self.dropout if self.training else 0.0
        return explicit(q, k, v, allowed, biases=biases, dropout=dropout, weigh=self.weigh)


def keys_in_sight(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """How many keys each query sees; fp32, broadcastable to the scores [..., L, L]."""
    if allowed is None:
        return torch.full((), scores.shape[-1], dtype=torch.float32, device=scores.device)
    return allowed.sum(-1, keepdim=True).float()


def scaled(scores: Tensor, allowed: Tensor | None, keys: Tensor | None = None) -> Tensor:
    """n^-1/2 s [B, H, L, L] of the allowed scores, zero elsewhere; `keys` are n where they are known already."""
    keys = keys_in_sight(scores, allowed) if keys is None else keys
    return where_allowed(scores * keys.rsqrt(), allowed)


class Temperature(nn.Module):
    """q [B, H, L, K] times a factor for each head: learned as its logarithm, and `most` at most."""

    def __init__(self, heads: int, *, start: float, most: float) -> None:
        super().__init__()
        self.log, self.most = nn.Parameter(torch.full((heads,), math.log(start))), math.log(most)

    def forward(self, q: Tensor) -> Tensor:
        return (q.float() * self.log.clamp(max=self.most).exp()[:, None, None]).to(q.dtype)


class MultiHead(nn.Module):
    """(x [B, L, D], what is seen, asked [B, A] or None) -> [B, L, D] or [B, A, D]: project, norm, place, weigh, gate, project.

    Queries and keys are normed before they are rotated, which keeps their length. The later layers of a model with
    `value_residual` mix the first one's values into their own, by two learned factors that begin at one half.
    """

    def __init__(
        self,
        place: Place,
        weights: nn.Module,
        *,
        head_width: int,
        theta: float,
        qk_norm: HeadNorm = "none",
        temperature: nn.Module | None = None,
        value_residual: bool = False,
        gate: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.head_width, self.qk_norm = heads_of(place.width, head_width), head_width, qk_norm
        self.qkv = Linear(place.width, 3 * place.width, bias=place.qkv_bias, fused=3)
        self.out = Linear(place.width, place.width, bias=place.bias, output=True)
        self.positions = Positions(place, heads=self.heads, head_width=head_width, theta=theta)
        self.weights, self.temperature = weights, temperature
        self.gate = Linear(place.width, self.heads, bias=place.bias) if gate else None
        self.keeps_values = value_residual and place.layer == 0
        self.of_values = nn.Parameter(torch.full((2,), 0.5)) if value_residual and place.layer > 0 else None

    def forward(self, x: Tensor, seen: Visible, asked: Tensor | None = None) -> Tensor:
        chosen, d = at_places(x, asked), x.shape[-1]
        if asked is None:
            q, k, v = self._in_heads(self.qkv(x), 3)
        else:
            (q,) = self._in_heads(self.qkv.rows(chosen, 0, d), 1)
            k, v = self._in_heads(self.qkv.rows(x, d, 3 * d), 2)
        q, k = self.positions(self._normed(q), self._normed(k), asked)
        if self.temperature is not None:
            q = self.temperature(q)
        if self.keeps_values:
            seen.kept["values"] = v
        if self.of_values is not None:
            first, own = self.of_values  # not rounded to bf16, in which small steps would never leave a half
            v = (first * seen.kept["values"].float() + own * v.float()).to(v.dtype)
        mixed = self.weights(q, k, v, seen, self.positions.slopes, asked)
        if self.gate is not None:
            mixed = mixed * torch.sigmoid(self.gate(chosen)).transpose(1, 2)[..., None]
        return self.out(mixed.transpose(1, 2).reshape(chosen.shape))

    def _in_heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """x [B, L, parts D] -> so many [B, H, L, K]."""
        b, l, _ = x.shape
        return x.view(b, l, parts, self.heads, self.head_width).permute(2, 0, 3, 1, 4).unbind(0)

    def _normed(self, x: Tensor) -> Tensor:
        """Each head's vector of mean square one ("rms"), or also centred ("layer"), in fp32 and without parameters."""
        if self.qk_norm == "none":
            return x
        norm = F.rms_norm if self.qk_norm == "rms" else F.layer_norm
        return norm(x.float(), (self.head_width,)).to(x.dtype)
