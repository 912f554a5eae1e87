"""SOAP on the hidden matrices, AdamW on everything else.

Adam in the eigenbasis of Shampoo's statistics (Vyas et al., arXiv 2409.11321): the second moment is kept of gradients that
are turned into the basis, which is brought up to date every `interval` steps by one step of a power iteration. As in the
authors' code the first gradient only makes the basis. Matrices of one shape are stacked, fused ones taken apart. Where the
first statistics cannot be decomposed, in fp64 either, the basis begins as unit matrices, which is Adam, and turns from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.core.errors import at_least, below_one
from gpuday.optim import LEAST_EPS, Named, Optimizer, Stepper
from gpuday.optim._stacks import StackRule, StackStepper, State, eigen, units
from gpuday.optim.adamw import Adamw


@dataclass(frozen=True, kw_only=True)
class Soap(Optimizer):
    """Adam in a turned basis on matrices, `rest` on tables, norms and biases."""

    lr: float = 3e-3
    """Peak rate of the matrices."""
    beta1: float = 0.95
    """Decay of the first moment, per step."""
    beta2: float = 0.95
    """Decay of the second moment and of the statistics of rows and columns, per step."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    interval: int = 10
    """Steps from one turn of the basis to the next."""
    weight_decay: float = 0.01
    """Decoupled decay of the matrices, times the rate, per step."""
    rest: Adamw = Adamw(lr=3e-3, eps=1e-8)
    """AdamW for everything that is no hidden matrix."""

    def __post_init__(self) -> None:
        at_least(
            "optimizer",
            lr=(self.lr, 0.0),
            eps=(self.eps, LEAST_EPS),
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
        steps = int(state["step"])  # before this one; the first does not count
        state["step"] += 1.0
        if not steps:
            self._measure(gradient, state)
            for side in ("rows", "columns"):
                found = eigen(state[side])
                if found is not None:
                    state[f"{side}_basis"].copy_(found[1].flip(2))
            return torch.zeros_like(gradient)
        rows, columns = state["rows_basis"], state["columns_basis"]
        first = state["exp_avg"].lerp_(gradient, 1.0 - self.beta1)
        second = state["exp_avg_sq"].lerp_((rows.mT @ gradient @ columns).square_(), 1.0 - self.beta2)
        turned = (rows.mT @ first @ columns) / second.sqrt().add_(self.eps)
        correction = (1.0 - self.beta2**steps) ** 0.5 / (1.0 - self.beta1**steps)
        update = (rows @ turned @ columns.mT) * correction
        self._measure(gradient, state)
        if steps % self.interval == 0:
            _turn(state)
        return update

    def _measure(self, gradient: Tensor, state: State) -> None:
        state["rows"].lerp_(gradient @ gradient.mT, 1.0 - self.beta2)
        state["columns"].lerp_(gradient.mT @ gradient, 1.0 - self.beta2)


def _turn(state: State) -> None:
    """Both bases nearer to the eigenvectors of the statistics, greatest eigenvalue first; the second moment follows the
    new order."""
    second = state["exp_avg_sq"]
    for side, axis in (("rows", 1), ("columns", 2)):
        basis = state[f"{side}_basis"]
        product = state[side] @ basis
        order = (basis * product).sum(dim=1).argsort(dim=1, descending=True)
        shape = [order.shape[0], 1, 1]
        shape[axis] = order.shape[1]
        second.copy_(second.gather(axis, order.view(shape).expand_as(second)))
        basis.copy_(torch.linalg.qr(product.gather(2, order[:, None, :].expand_as(product)))[0])


def _start(n: int, r: int, c: int, device: torch.device) -> State:
    return {
        "rows": torch.zeros(n, r, r, device=device),
        "rows_basis": units(n, r, device),
        "columns": torch.zeros(n, c, c, device=device),
        "columns_basis": units(n, c, device),
        "exp_avg": torch.zeros(n, r, c, device=device),
        "exp_avg_sq": torch.zeros(n, r, c, device=device),
        "step": torch.zeros(()),
    }
