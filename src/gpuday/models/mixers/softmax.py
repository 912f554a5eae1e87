"""Softmax attention over all positions, or over a local window in all but every n-th layer.

Vaswani et al., arXiv 1706.03762; alternating local windows as in ModernBERT (Warner et al., arXiv 2412.13663).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from gpuday.core.errors import UsageError
from gpuday.models.attention import attend
from gpuday.models.linear import Linear
from gpuday.models.mixers import Mixer, Place
from gpuday.models.position import rotary_angles, rotate
from gpuday.models.visible import Visible


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

    def __post_init__(self) -> None:
        if self.head_width < 2 or self.head_width % 2:
            raise UsageError(
                f"head_width is {self.head_width}",
                where="model.mixer.head_width",
                fix="give an even number, such as 64",
            )
        if self.window < 0 or self.global_every < 1:
            raise UsageError(
                f"window {self.window} with global_every {self.global_every} is no pattern",
                where="model.mixer",
                fix="give a window of 0 or more and a global_every of 1 or more",
            )

    def is_local(self, layer: int) -> bool:
        return self.window > 0 and layer % self.global_every != 0

    def build(self, place: Place) -> nn.Module:
        if place.width % self.head_width:
            raise UsageError(
                f"width {place.width} is not a multiple of head_width {self.head_width}",
                where="model.mixer.head_width",
                fix="choose a head width that divides the width",
            )
        return SoftmaxAttention(self, place)

    def flops_per_token(self, place: Place) -> float:
        reach = min(place.length, 2 * (self.window // 2) + 1) if self.is_local(place.layer) else place.length
        return 2 * 4 * place.width**2 + 2 * 2 * reach * place.width


class SoftmaxAttention(nn.Module):
    """(x [B, L, D], what is seen) -> [B, L, D]; B rows, L positions, H heads of width K, D = H K."""

    def __init__(self, config: Softmax, place: Place) -> None:
        super().__init__()
        self.heads, self.head_width = place.width // config.head_width, config.head_width
        self.qkv = Linear(place.width, 3 * place.width, bias=place.bias, fused=3)
        self.out = Linear(place.width, place.width, bias=place.bias, output=True)
        self.dropout, self.rotary = place.dropout, place.rotary
        local = config.is_local(place.layer)
        self.reach = config.window // 2 if local else None
        if place.rotary:
            theta = config.local_theta if local else config.theta
            cos, sin = rotary_angles(place.length, config.head_width, theta)
            self.cos: Tensor
            self.sin: Tensor
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def forward(self, x: Tensor, seen: Visible | None = None) -> Tensor:
        b, l, d = x.shape
        q, k, v = self.qkv(x).view(b, l, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4).unbind(0)
        if self.rotary:
            cos, sin = self.cos[:l], self.sin[:l]
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(q, k, v, seen or Visible(), reach=self.reach, dropout=dropout)
        return self.out(mixed.transpose(1, 2).reshape(b, l, d))
