"""Lion: every weight moves by the rate, against the sign of an averaged gradient (Chen et al., arXiv 2302.06675)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.core.errors import at_least, below_one
from gpuday.optim import Named, Optimizer, Stepper
from gpuday.optim._rules import Rule, RuleStepper, State, zeros


@dataclass(frozen=True, kw_only=True)
class Lion(Optimizer):
    """One rate for everything; norms and biases do not decay."""

    lr: float = 5e-4
    """Peak rate: how far a weight moves in one step. Half to a tenth of AdamW's."""
    beta1: float = 0.9
    """Share of the momentum in what the sign is taken of."""
    beta2: float = 0.99
    """Decay of the momentum, per step."""
    weight_decay: float = 0.1
    """Decoupled decay, times the rate, per step. Three to ten times AdamW's."""

    def __post_init__(self) -> None:
        at_least("optimizer", lr=(self.lr, 0.0), weight_decay=(self.weight_decay, 0.0))
        below_one("optimizer", beta1=self.beta1, beta2=self.beta2)

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        rule = Rule(start=lambda p: {"momentum": zeros(p)}, move=self._move)
        return RuleStepper(parameters, rule, lr=self.lr, weight_decay=self.weight_decay)

    def _move(self, p: Named, gradient: Tensor, state: State, rate: float, decay: float) -> None:
        direction = state["momentum"].lerp(gradient, 1.0 - self.beta1).sign_()
        state["momentum"].lerp_(gradient, 1.0 - self.beta2)
        p.tensor.mul_(1.0 - rate * decay).sub_(direction, alpha=rate)
