"""Connections that pass over blocks: from the stack's input to every block, and from each block to its mirror image.

Input: a block begins with a x + b x0, where a, b are learned and begin at 1, 0, as in modded-nanogpt and NeoMME.
Mirror: Ronneberger, Fischer & Brox, arXiv 1505.04597 (U-Net), on transformers in Bao et al., arXiv 2209.12152; a sum
with a learned weight that begins at 1, as in modded-nanogpt. Both are taken in fp32: bf16 would round a weight of 1.003
to 1.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from gpuday.models.visible import Visible

Kind = Literal["none", "x0", "unet"]


class InputSkip(nn.Module):
    """(x [B, L, D], what is seen) -> a x + b x0 [B, L, D], x0 the stack's input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor, seen: Visible) -> Tensor:
        return (self.weight[0] * x.float() + self.weight[1] * seen.kept["x0"].float()).to(x.dtype)


class MirrorSkip(nn.Module):
    """(x [B, L, D], what is seen) -> x + w y [B, L, D], y the output of block `layer`."""

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.name = output_name(layer)
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, seen: Visible) -> Tensor:
        return (x.float() + self.weight * seen.kept[self.name].float()).to(x.dtype)


def build_skip(kind: Kind, layer: int, blocks: int) -> nn.Module | None:
    """What block `layer` of so many does to its input before anything else; None for nothing."""
    if kind == "x0":
        return InputSkip()
    if kind == "unet" and layer >= blocks - blocks // 2:
        return MirrorSkip(blocks - 1 - layer)
    return None


def output_name(layer: int) -> str:
    """Under which name a block of the first half leaves its output in `Visible.kept`."""
    return f"block {layer}"
