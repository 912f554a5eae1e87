"""Schedule-free AdamW: gradients are taken between the weights that move and their average, which is what is evaluated
(Defazio et al., arXiv 2405.15682).

Three sequences: z moves by AdamW, x averages z, and the model is trained at y = (1 - beta1) z + beta1 x. Only y, which the
parameters hold, and z are kept. A step weighs in the average by its squared rate, so that what a warm-up does at the
beginning counts little; a rate that falls would undo the method, so give it a schedule that only warms up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.core.errors import at_least, below_one, within
from gpuday.optim import LEAST_EPS, Named, Optimizer, Stepper
from gpuday.optim._rules import Rule, RuleStepper, State, zeros


@dataclass(frozen=True, kw_only=True)
class ScheduleFree(Optimizer):
    """One rate for everything; norms and biases do not decay."""

    lr: float = 2.5e-3
    """Peak rate."""
    beta1: float = 0.9
    """How near to the average the gradients are taken: 0.9 is nine tenths of the way."""
    beta2: float = 0.98
    """Decay of the second moment, per step."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Decoupled decay at y, times the rate, per step."""

    def __post_init__(self) -> None:
        at_least("optimizer", lr=(self.lr, 0.0), eps=(self.eps, LEAST_EPS), weight_decay=(self.weight_decay, 0.0))
        # x is y less z's share, over beta1: below, it would lose its digits.
        within("optimizer", beta1=(self.beta1, 0.1, 1.0))
        below_one("optimizer", beta2=self.beta2)

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        rule = Rule(start=_start, move=self._move, shown=self._average)
        return RuleStepper(parameters, rule, lr=self.lr, weight_decay=self.weight_decay)

    def _move(self, p: Named, gradient: Tensor, state: State, rate: float, decay: float) -> None:
        y, z = p.tensor, state["z"]
        state["step"] += 1.0
        state["weight"] += rate**2
        total = state["weight"].item()
        share = rate**2 / total if total else 0.0
        second = state["exp_avg_sq"].mul_(self.beta2).addcmul_(gradient, gradient, value=1.0 - self.beta2)
        root = (second / (1.0 - self.beta2 ** state["step"].item())).sqrt_().add_(self.eps)
        update = (gradient / root).add_(y, alpha=decay)
        # What follows is z' = z - rate update, x' = (1 - share) x + share z', y' = (1 - beta1) z' + beta1 x', without x.
        y.lerp_(z, share).sub_(update, alpha=rate * (1.0 - self.beta1 * (1.0 - share)))
        z.sub_(update, alpha=rate)

    def _average(self, p: Named, state: State) -> Tensor:
        """x of y and z."""
        return p.tensor.detach().lerp(state["z"], 1.0 - 1.0 / self.beta1)


def _start(p: Named) -> State:
    z = p.tensor.detach().clone()
    counts = {"step": torch.zeros(()), "weight": torch.zeros((), dtype=torch.float64)}
    return {"z": z, "exp_avg_sq": zeros(p), **counts}
