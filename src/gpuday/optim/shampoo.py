"""Shampoo on the hidden matrices, AdamW on everything else.

A gradient is multiplied by the inverse fourth roots of the averaged G G^T and G^T G (Gupta, Koren & Singer, arXiv
1802.09568), both averages that forget, and the update is given the length of Adam's ("grafting", Anil et al., arXiv
2002.09018), so that rates carry over from Adam. Matrices of one shape are stacked, fused ones taken apart. Where the statistics of a
stack cannot be decomposed, in fp64 either, its roots stay what they were for one more interval: at first unit matrices,
with which Shampoo is Adam's length along the momentum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.core.errors import at_least, below_one
from gpuday.optim import LEAST_EPS, Named, Optimizer, Stepper
from gpuday.optim._rules import adam
from gpuday.optim._stacks import StackRule, StackStepper, State, eigen, units
from gpuday.optim.adamw import Adamw


@dataclass(frozen=True, kw_only=True)
class Shampoo(Optimizer):
    """Preconditioned momentum on matrices, `rest` on tables, norms and biases."""

    lr: float = 2e-3
    """Peak rate of the matrices."""
    beta1: float = 0.9
    """Decay of the first moment, per step."""
    beta2: float = 0.98
    """Decay of the statistics of rows and columns, and of the second moment that gives the length, per step."""
    eps: float = 1e-6
    """Added to the eigenvalues of the statistics, as a share of the greatest."""
    graft_eps: float = 1e-8
    """Added to the root of the second moment that gives the length."""
    interval: int = 10
    """Steps from one computation of the roots to the next."""
    weight_decay: float = 0.01
    """Decoupled decay of the matrices, times the rate, per step."""
    rest: Adamw = Adamw(lr=2e-3, eps=1e-8)
    """AdamW for everything that is no hidden matrix."""

    def __post_init__(self) -> None:
        at_least(
            "optimizer",
            lr=(self.lr, 0.0),
            eps=(self.eps, 1e-12),
            graft_eps=(self.graft_eps, LEAST_EPS),
            interval=(self.interval, 1),
            weight_decay=(self.weight_decay, 0.0),
        )
        below_one("optimizer", beta1=self.beta1, beta2=self.beta2)

    @property
    def period(self) -> int:
        return self.interval

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        rule = StackRule(start=_start, update=self._update)
        return StackStepper(parameters, rule, self.rest.build, lr=self.lr, weight_decay=self.weight_decay)

    def _update(self, gradient: Tensor, state: State) -> Tensor:
        forget = 1.0 - self.beta2
        state["rows"].lerp_(gradient @ gradient.mT, forget)
        state["columns"].lerp_(gradient.mT @ gradient, forget)
        if int(state["step"]) % self.interval == 0:
            for side in ("rows", "columns"):
                root = inverse_fourth_root(state[side], self.eps)
                if root is not None:
                    state[f"{side}_root"].copy_(root)
        length = adam(gradient, state, beta1=self.beta1, beta2=self.beta2, eps=self.graft_eps)
        update = state["rows_root"] @ state["exp_avg"] @ state["columns_root"]
        return update * (_norms(length) / (_norms(update) + 1e-30))


def inverse_fourth_root(stack: Tensor, eps: float) -> Tensor | None:
    """(A + eps a I)^(-1/4) of every symmetric A in [n, d, d], a being its greatest eigenvalue; None where the eigenvalues
    of one are not found."""
    found = eigen(stack)
    if found is None:
        return None
    values, vectors = found
    values = values.clamp(min=0.0)
    values = values + eps * values.amax(dim=1, keepdim=True) + 1e-30  # of nothing it is something finite
    return (vectors * values.pow(-0.25)[:, None, :]) @ vectors.mT


def _norms(stack: Tensor) -> Tensor:
    return stack.norm(dim=(1, 2), keepdim=True)


def _start(n: int, r: int, c: int, device: torch.device) -> State:
    return {
        "rows": torch.zeros(n, r, r, device=device),
        "rows_root": units(n, r, device),
        "columns": torch.zeros(n, c, c, device=device),
        "columns_root": units(n, c, device),
        "exp_avg": torch.zeros(n, r, c, device=device),
        "exp_avg_sq": torch.zeros(n, r, c, device=device),
        "step": torch.zeros(()),
    }
