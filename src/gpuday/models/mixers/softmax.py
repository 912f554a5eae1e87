"""Softmax attention over all positions, or over a local window in all but every n-th layer.

Vaswani et al., arXiv 1706.03762; alternating local windows as in ModernBERT (Warner et al., arXiv 2412.13663).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpuday.core.errors import UsageError
from gpuday.models.linear import Linear
from gpuday.models.mixers import Mixer, Place
from gpuday.models.position import rotary_angles, rotate


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


EXPLICIT_UP_TO = 256  # positions; beyond, the scores' memory traffic outweighs what is gained


def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, dropout: float) -> Tensor:
    """softmax(q k^T / sqrt(K)) v for [B, H, L, K], `allowed` bool broadcastable to [B, H, L, L].

    On a CPU two plain batched products with the softmax between them, fused by the compiler, train a 4x256 model at 128
    positions 1.4 times as fast as the flash kernel behind SDPA, whose backward is slow there (docs/experiments.md).
    """
    if q.device.type != "cpu" or q.shape[2] > EXPLICIT_UP_TO or dropout > 0.0:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    return torch.softmax(scores, dim=-1).to(q.dtype) @ v


class SoftmaxAttention(nn.Module):
    """(x [B, L, D], mask [B, L] or None) -> [B, L, D]; B rows, L positions, H heads of width K, D = H K."""

    def __init__(self, config: Softmax, place: Place) -> None:
        super().__init__()
        self.heads, self.head_width = place.width // config.head_width, config.head_width
        self.qkv = Linear(place.width, 3 * place.width, bias=place.bias, fused=3)
        self.out = Linear(place.width, place.width, bias=place.bias, output=True)
        self.dropout, self.rotary = place.dropout, place.rotary
        self.local = config.is_local(place.layer)
        self.half_window = config.window // 2 if self.local else 0
        if place.rotary:
            theta = config.local_theta if self.local else config.theta
            cos, sin = rotary_angles(place.length, config.head_width, theta)
            self.cos: Tensor
            self.sin: Tensor
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, l, d = x.shape
        q, k, v = self.qkv(x).view(b, l, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4).unbind(0)
        if self.rotary:
            cos, sin = self.cos[:l], self.sin[:l]
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(q, k, v, self._allowed(mask, l), dropout)
        return self.out(mixed.transpose(1, 2).reshape(b, l, d))

    def _allowed(self, mask: Tensor | None, length: int) -> Tensor | None:
        """Which key each query may see, bool, broadcastable to [B, H, L, L]; None where all may."""
        allowed = None if mask is None else mask[:, None, None, :]
        if self.local and length > self.half_window:
            at = torch.arange(length, device=self.qkv.weight.device)
            near = (at[:, None] - at[None, :]).abs() <= self.half_window
            # A padded query near no real key would attend to nothing, and softmax over nothing is NaN.
            allowed = near if allowed is None else (near & allowed) | torch.eye(length, device=near.device).bool()
        return allowed
