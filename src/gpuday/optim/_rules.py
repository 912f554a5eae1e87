"""A stepper that moves one parameter after the other by a rule, its state made at once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.optim import Gradients, Named, Stepper
from gpuday.optim._groups import decay_groups

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What an optimizer does to one parameter."""

    start: Callable[[Named], State]
    """The state before the first step; counts as 0-dimensional tensors on the host."""
    move: Callable[[Named, Tensor, State, float, float], None]
    """One update by a gradient, at a rate and a weight decay. Writes into parameter and state, not into the gradient."""
    shown: Callable[[Named, State], Tensor] | None = None
    """The weights to evaluate; None for those that are trained."""


class RuleStepper(Stepper):
    """One rate for everything; vectors do not decay."""

    def __init__(self, parameters: Sequence[Named], rule: Rule, *, lr: float, weight_decay: float) -> None:
        self._parameters, self._rule, self._lr = parameters, rule, lr
        groups = decay_groups(parameters, lr=lr, weight_decay=weight_decay)
        self._decays: dict[Tensor, float] = {t: group["weight_decay"] for group in groups for t in group["params"]}
        self.states: dict[str, State] = {p.name: rule.start(p) for p in parameters}

    @torch.no_grad()
    def step(self, multiplier: float, closure: Gradients, *, decay: float = 1.0) -> None:
        for p in self._parameters:
            if p.tensor.grad is not None:
                share = self._decays[p.tensor] * decay
                self._rule.move(p, p.tensor.grad, self.states[p.name], self._lr * multiplier, share)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        if self._rule.shown is None:
            yield
            return
        trained = [p.tensor.detach().clone() for p in self._parameters]
        self._write([self._rule.shown(p, self.states[p.name]) for p in self._parameters])
        try:
            yield
        finally:
            self._write(trained)

    def state(self) -> dict[str, Tensor]:
        return {f"{name}/{key}": tensor for name, state in self.states.items() for key, tensor in state.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        for name, own in self.state().items():
            own.copy_(state[name])

    @torch.no_grad()
    def _write(self, values: Sequence[Tensor]) -> None:
        for p, value in zip(self._parameters, values, strict=True):
            p.tensor.copy_(value)


def zeros(p: Named) -> Tensor:
    """A moment of this parameter before the first step."""
    return torch.zeros_like(p.tensor, requires_grad=False)


def adam_start(p: Named) -> State:
    """The state of `adam`."""
    return {"exp_avg": zeros(p), "exp_avg_sq": zeros(p), "step": torch.zeros(())}


def adam(gradient: Tensor, state: State, *, beta1: float, beta2: float, eps: float) -> Tensor:
    """Adam's direction (Kingma & Ba, arXiv 1412.6980): both moments advanced by the gradient, corrected and divided."""
    state["step"] += 1.0
    steps = state["step"].item()
    first = state["exp_avg"].lerp_(gradient, 1.0 - beta1)
    second = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
    root = (second / (1.0 - beta2**steps)).sqrt_().add_(eps)
    return first / root.mul_(1.0 - beta1**steps)


def pieces(p: Named, tensor: Tensor) -> Tensor:
    """A tensor of the parameter's shape as [fused, elements], a row for every matrix that is fused in it."""
    return tensor.reshape(p.fused, -1)
