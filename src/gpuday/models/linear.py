"""Linear and embedding layers that keep fp32 weights and compute in the dtype of their input.

There is no autocast: the activations' dtype is chosen once, at the embedding, and every layer casts its own fp32
weight to it. The cast's backward hands fp32 gradients to `.grad`, so that accumulation over micro-batches is in fp32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Module):
    """y = x W^T + b with W fp32 [out, in], computed in x's dtype.

    `fused` says how many matrices are stacked along W's rows (3 for query, key, value), each [out / fused, in]:
    optimizers that treat matrices as such (Muon) take them apart.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool, fused: int = 1, output: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.fused = fused
        self.is_output = output  # writes into the residual stream: `zero_output` initialisation finds it by this

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)

    def rows(self, x: Tensor, first: int, end: int) -> Tensor:
        """Outputs `first` to `end` of y alone, by those rows of W."""
        bias = None if self.bias is None else self.bias[first:end].to(x.dtype)
        return F.linear(x, self.weight[first:end].to(x.dtype), bias)


class Embedding(nn.Module):
    """Rows of an fp32 table [vocab, width], returned in `dtype`."""

    def __init__(self, vocab: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab, width))

    def forward(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        return F.embedding(ids, self.weight).to(dtype)
