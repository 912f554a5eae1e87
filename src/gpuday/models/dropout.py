"""Dropout, whose noise costs a CPU as little as comparing integers does.

Srivastava et al., JMLR 15 (2014). PyTorch draws a Bernoulli number for each element on a CPU, which shows in the time of
a fine-tuning step (docs/experiments.md). One 64-bit number of the same generator decides four elements here.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 1 << 16  # that a probability is rounded to
FEWEST = LEVELS >> 8  # of them to either side: a smaller probability would be off by more than 0.2%


class Dropout(nn.Dropout):
    """x -> x with each element at 0 with probability p, else times 1 / (1 - p), while training; x itself otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        return dropped(x, self.p) if self.training else x


def quicken(model: nn.Module) -> None:
    """Every `nn.Dropout` inside of a model becomes a `Dropout` of the same probability and mode."""
    for name, child in list(model.named_modules(remove_duplicate=False)):
        if type(child) is nn.Dropout:
            model.set_submodule(name, Dropout(child.p).train(child.training))


def dropped(x: Tensor, p: float) -> Tensor:
    """x of any shape and floating dtype, thinned, from torch's global generator.

    On a CPU p is rounded to 16 bits, and elements are scaled by what it is then: the mean stays exact. Compiled code and
    other devices make noise inside of their kernels, which is left to them.
    """
    if p == 0.0:
        return x
    zeros = round(p * LEVELS)
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not FEWEST <= zeros <= LEVELS - FEWEST:
        return F.dropout(x, p)
    count = x.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64, device=x.device).random_(-(1 << 63), None)
    kept = bits.view(torch.int16)[:count].view(x.shape) >= zeros - LEVELS // 2
    # The scale last and as a number: inside of a bf16 mask it would be rounded first, by 0.2% at p = 0.1.
    return (x * kept.to(x.dtype)).mul_(LEVELS / (LEVELS - zeros))
