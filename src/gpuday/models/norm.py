"""Normalisation over the last axis, computed in fp32 whatever the dtype of the activations.

LayerNorm: Ba, Kiros & Hinton, arXiv 1607.06450. RMSNorm: Zhang & Sennrich, arXiv 1910.07467. ScaleNorm: Nguyen &
Salazar, arXiv 1910.05895.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["layernorm", "rmsnorm", "scalenorm"]


class Norm(nn.Module):
    """x [..., D] -> [..., D]: centred (layernorm) or not, scaled by a learned weight if `scale`, shifted if `bias`.

    The weight has D entries that begin at one; scalenorm's is one number g in g x / |x| that begins at sqrt(D), where
    it equals the other two on centred rows.
    """

    def __init__(self, width: int, *, kind: Kind, eps: float, bias: bool, scale: bool = True) -> None:
        super().__init__()
        self.kind, self.eps, self.width = kind, eps, width
        start = torch.tensor(width**0.5) if kind == "scalenorm" else torch.ones(width)
        self.weight = nn.Parameter(start) if scale else None
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        full = x.float()
        if self.kind == "layernorm":
            return F.layer_norm(full, (self.width,), self.weight, self.bias, self.eps).to(x.dtype)
        if self.kind == "rmsnorm":
            full = F.rms_norm(full, (self.width,), self.weight, self.eps)
        else:
            full = F.normalize(full, dim=-1, eps=self.eps) * (self.width**0.5 if self.weight is None else self.weight)
        return (full if self.bias is None else full + self.bias).to(x.dtype)
