"""Sophia-H: the averaged gradient over an averaged estimate of the Hessian's diagonal, every weight's move clipped (Liu et
al., arXiv 2305.14342, algorithm 3 with Hutchinson's estimator).

Every `interval` steps the diagonal is estimated anew, from the gradients of the step's own rows at two points near the
weights: two more forward and backward passes. The paper's other estimator wants labels drawn from the model, which the
objectives do not give. Differences of gradients want fp32: where the model computes in bf16, `distance` must be large
enough for the weights to move at all, and the estimate is coarse.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.core.errors import at_least, below_one
from gpuday.optim import Gradients, Named, Optimizer, Stepper
from gpuday.optim._points import hessian_diagonal
from gpuday.optim._rules import Rule, RuleStepper, State, zeros

STEP = "sophia/step"  # of the whole optimizer, not of a parameter


@dataclass(frozen=True, kw_only=True)
class Sophia(Optimizer):
    """One rate for everything; norms and biases do not decay."""

    lr: float = 1e-3
    """Peak rate: the furthest that a weight moves in one step."""
    beta1: float = 0.96
    """Decay of the first moment, per step."""
    beta2: float = 0.99
    """Decay of the Hessian's diagonal, per estimate."""
    gamma: float = 0.01
    """The smaller, the more moves are clipped; the paper wants a tenth to a half of them not to be."""
    eps: float = 1e-12
    """The least that the first moment is divided by."""
    interval: int = 10
    """Steps from one estimate of the Hessian to the next."""
    distance: float = 1e-3
    """How far every weight is moved to both sides for an estimate."""
    weight_decay: float = 0.1
    """Decoupled decay, times the rate, per step."""

    def __post_init__(self) -> None:
        at_least(
            "optimizer",
            lr=(self.lr, 0.0),
            gamma=(self.gamma, 0.0),
            eps=(self.eps, 1e-30),
            interval=(self.interval, 1),
            distance=(self.distance, 1e-9),
            weight_decay=(self.weight_decay, 0.0),
        )
        below_one("optimizer", beta1=self.beta1, beta2=self.beta2)

    @property
    def period(self) -> int:
        return self.interval

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        return SophiaStepper(self, parameters, seed)


class SophiaStepper(Stepper):
    """The moves of a `RuleStepper`, and the estimates between them."""

    def __init__(self, config: Sophia, parameters: Sequence[Named], seed: int) -> None:
        self._config, self._parameters, self._seed = config, parameters, seed
        rule = Rule(start=lambda p: {"momentum": zeros(p), "hessian": zeros(p)}, move=self._move)
        self._moves = RuleStepper(parameters, rule, lr=config.lr, weight_decay=config.weight_decay)
        self._step = torch.zeros((), dtype=torch.int64)

    def step(self, multiplier: float, closure: Gradients, *, decay: float = 1.0) -> None:
        number = int(self._step)
        if number % self._config.interval == 0:
            distance, seed = self._config.distance, self._seed
            found = hessian_diagonal(self._parameters, closure, distance=distance, seed=seed, draw=number)
            for name, diagonal in found.items():
                self._moves.states[name]["hessian"].lerp_(diagonal, 1.0 - self._config.beta2)
        self._moves.step(multiplier, closure, decay=decay)
        self._step += 1

    def _move(self, p: Named, gradient: Tensor, state: State, rate: float, decay: float) -> None:
        config = self._config
        momentum = state["momentum"].lerp_(gradient, 1.0 - config.beta1)
        update = (momentum / (config.gamma * state["hessian"]).clamp_(min=config.eps)).clamp_(-1.0, 1.0)
        p.tensor.mul_(1.0 - rate * decay).sub_(update, alpha=rate)

    def evaluation(self) -> AbstractContextManager[None]:
        return self._moves.evaluation()

    def state(self) -> dict[str, Tensor]:
        return {STEP: self._step, **self._moves.state()}

    def load(self, state: dict[str, Tensor]) -> None:
        self._step.copy_(state[STEP])
        self._moves.load(state)
