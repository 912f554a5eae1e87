"""Softmax attention over all positions, or over a local window in all but every n-th layer; O(L^2) or O(L window).

Vaswani et al., arXiv 1706.03762; alternating local windows as in ModernBERT (Warner et al., arXiv 2412.13663). Normed
queries and keys: Henry et al., arXiv 2010.04245, here without parameters, as in modded-nanogpt (a learned temperature is
`cosine`'s). Value residual: Zhou et al., arXiv 2410.17897. Capped scores: Gemma 2, arXiv 2408.00118. Output gate: Qiu et
al., arXiv 2505.06708, one number a head.
"""

from dataclasses import dataclass, replace

from torch import nn

from gpuday.core.errors import UsageError, within
from gpuday.models.mixers import Mixer, Place, Traits
from gpuday.models.mixers._heads import (
    HeadNorm,
    MultiHead,
    SoftmaxWeights,
    attention_flops,
    check_head_width,
    heads_of,
)


@dataclass(frozen=True, kw_only=True)
class Softmax(Mixer):
    """Multi-head attention, scale head_width^-1/2."""

    head_width: int = 64
    """Width of one head; the model's width must be a multiple of it."""
    theta: float = 10000.0
    """Base of the rotary wavelengths in global layers, when positions are rotary."""
    window: int = 0
    """Local layers attend to positions at distance window / 2 at most; 0 makes every layer global."""
    global_every: int = 3
    """With a window: layers 0, n, 2n, ... are global."""
    local_theta: float = 10000.0
    """Base of the rotary wavelengths in local layers."""
    qk_norm: HeadNorm = "none"
    """Norm of every head's query and key before positions turn them: none, root mean square, or centred as well."""
    value_residual: bool = False
    """Whether layers after the first mix its values into theirs, by two learned factors each."""
    cap: float = 0.0
    """Scores s become cap * tanh(s / cap); 0 leaves them as they are. Not every kernel can: it costs speed, and where none
    can, six times the layer's memory, in fp32 for each pair of positions."""
    gate: bool = False
    """Whether a sigmoid of the layer's input scales the answer of each head."""

    def __post_init__(self) -> None:
        check_head_width(self.head_width)
        within("model.mixer", cap=(self.cap, 0.0, 1e6))
        if self.window < 0 or self.global_every < 1:
            raise UsageError(
                f"window {self.window} with global_every {self.global_every} is no pattern",
                where="model.mixer",
                fix="give a window of 0 or more and a global_every of 1 or more",
            )

        if self.window > 0 and self.global_every == 1:
            raise UsageError(
                f"every layer is global, and none has the window of {self.window}",
                where="model.mixer.global_every",
                fix="give a global_every of 2 or more, or a window of 0",
            )

    def is_local(self, layer: int) -> bool:
        return self.window > 0 and layer % self.global_every != 0

    @property
    def traits(self) -> Traits:
        return Traits(causal=True, scored=True, recalls=self.value_residual, unit=self.head_width, asked=True)

    def check(self, *, width: int, layers: int) -> None:
        heads_of(width, self.head_width)
        if self.value_residual and layers == 1:
            raise UsageError(
                "one layer of softmax attention has no later one to read its values",
                where="model.mixer.value_residual",
                fix="give it more layers, or set value_residual=false",
            )

    def resized(self, layers: int, *, before: int) -> Mixer:
        return replace(self, value_residual=False) if layers == 1 else self

    def build(self, place: Place) -> nn.Module:
        local = self.is_local(place.layer)
        reach = self.window // 2 if local else None
        return MultiHead(
            place,
            SoftmaxWeights(head_width=self.head_width, dropout=place.dropout, reach=reach, cap=self.cap),
            head_width=self.head_width,
            theta=self.local_theta if local else self.theta,
            qk_norm=self.qk_norm,
            value_residual=self.value_residual,
            gate=self.gate,
        )

    def flops_per_token(self, place: Place) -> float:
        reach = min(place.length, 2 * (self.window // 2) + 1) if self.is_local(place.layer) else place.length
        gate = 2 * place.width * heads_of(place.width, self.head_width) if self.gate else 0
        return attention_flops(place, reach) + gate
