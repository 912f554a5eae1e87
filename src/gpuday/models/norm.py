"""Normalisation over the last axis, computed in fp32 whatever the dtype of the activations.

LayerNorm: Ba, Kiros & Hinton, arXiv 1607.06450. RMSNorm: Zhang & Sennrich, arXiv 1910.07467.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["layernorm", "rmsnorm"]


class Norm(nn.Module):
    """x [..., D] -> [..., D]: centred (layernorm) or not (rmsnorm), scaled by a learned weight, shifted if `bias`."""

    def __init__(self, width: int, *, kind: Kind, eps: float, bias: bool) -> None:
        super().__init__()
        self.kind, self.eps, self.width = kind, eps, width
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        full = x.float()
        if self.kind == "layernorm":
            return F.layer_norm(full, (self.width,), self.weight, self.bias, self.eps).to(x.dtype)
        full = F.rms_norm(full, (self.width,), self.weight, self.eps)
        return (full if self.bias is None else full + self.bias).to(x.dtype)
