"""AdamW whose rate is relative to the root mean square of each matrix, as Adafactor's: the optimizer of nanoT5
(Nawrot, arXiv 2309.02373)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.core.errors import at_least, below_one
from gpuday.optim import LEAST_EPS, Named, Optimizer, Stepper
from gpuday.optim._rules import Rule, RuleStepper, State, adam, adam_start, pieces


@dataclass(frozen=True, kw_only=True)
class AdamwScale(Optimizer):
    """One relative rate for everything; norms and biases do not decay."""

    lr: float = 0.02
    """Peak rate, relative to the root mean square of the weights of a matrix or vector."""
    least_scale: float = 1e-3
    """The root mean square that they are taken to have at least."""
    beta1: float = 0.9
    """Decay of the first moment, per step."""
    beta2: float = 0.98
    """Decay of the second moment, per step."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.0
    """Decoupled decay, times the rate, not times the scale, per step."""

    def __post_init__(self) -> None:
        at_least(
            "optimizer",
            lr=(self.lr, 0.0),
            least_scale=(self.least_scale, 0.0),
            eps=(self.eps, LEAST_EPS),
            weight_decay=(self.weight_decay, 0.0),
        )
        below_one("optimizer", beta1=self.beta1, beta2=self.beta2)

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        rule = Rule(start=adam_start, move=self._move)
        return RuleStepper(parameters, rule, lr=self.lr, weight_decay=self.weight_decay)

    def _move(self, p: Named, gradient: Tensor, state: State, rate: float, decay: float) -> None:
        update = adam(gradient, state, beta1=self.beta1, beta2=self.beta2, eps=self.eps)
        scale = pieces(p, p.tensor).square().mean(dim=1, keepdim=True).sqrt_().clamp_(min=self.least_scale)
        p.tensor.sub_((pieces(p, update) * scale).view_as(p.tensor), alpha=rate).mul_(1.0 - rate * decay)
