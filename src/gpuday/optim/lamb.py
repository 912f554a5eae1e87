"""LAMB: Adam whose update of a matrix is as long as the rate times the matrix (You et al., arXiv 1904.00962, algorithm 2).

The ratio of lengths is taken for each matrix on its own, also where several are fused, and the decay is part of the
update that is measured. Norms, biases and scalars move as in Adam, as in the authors' code for BERT.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.core.errors import at_least, below_one
from gpuday.optim import LEAST_EPS, Named, Optimizer, Stepper
from gpuday.optim._rules import Rule, RuleStepper, State, adam, adam_start, pieces


@dataclass(frozen=True, kw_only=True)
class Lamb(Optimizer):
    """One rate for everything, relative to the length of matrices and tables."""

    lr: float = 0.01
    """Peak rate: an update's length over its matrix's."""
    beta1: float = 0.9
    """Decay of the first moment, per step."""
    beta2: float = 0.98
    """Decay of the second moment, per step."""
    eps: float = 1e-6
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Share of the weights in the update whose length is measured."""

    def __post_init__(self) -> None:
        at_least("optimizer", lr=(self.lr, 0.0), eps=(self.eps, LEAST_EPS), weight_decay=(self.weight_decay, 0.0))
        below_one("optimizer", beta1=self.beta1, beta2=self.beta2)

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        rule = Rule(start=adam_start, move=self._move)
        return RuleStepper(parameters, rule, lr=self.lr, weight_decay=self.weight_decay)

    def _move(self, p: Named, gradient: Tensor, state: State, rate: float, decay: float) -> None:
        update = adam(gradient, state, beta1=self.beta1, beta2=self.beta2, eps=self.eps)
        if p.role != "vector":
            update.add_(p.tensor, alpha=decay)
            weights, updates = (pieces(p, t).norm(dim=1, keepdim=True) for t in (p.tensor, update))
            ratio = torch.where((weights > 0.0) & (updates > 0.0), weights / updates, 1.0)
            update = (pieces(p, update) * ratio).view_as(p.tensor)
        p.tensor.sub_(update, alpha=rate)
