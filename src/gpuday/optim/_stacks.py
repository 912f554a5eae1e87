"""A stepper for matrices: those of one shape are stacked and moved by batched products, fused ones are taken apart."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.optim import Gradients, Named, Stepper

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class StackRule:
    """What an optimizer does to a stack of n matrices [n, r, c]."""

    start: Callable[[int, int, int, torch.device], State]
    """The state of a stack of that n, r and c before the first step; counts as 0-dimensional tensors on the host."""
    update: Callable[[Tensor, State], Tensor]
    """What is taken from the weights at rate 1, from the gradient [n, r, c], in any dtype. Both may be written into."""


class StackStepper(Stepper):
    """Matrices by a rule for stacks, with decoupled decay; `rest` moves everything else."""

    def __init__(
        self,
        parameters: Sequence[Named],
        rule: StackRule,
        rest: Callable[[Sequence[Named]], Stepper],
        *,
        lr: float,
        weight_decay: float,
        cautious: bool = False,
    ) -> None:
        self._rule, self._lr, self._weight_decay, self._cautious = rule, lr, weight_decay, cautious
        others = [p for p in parameters if p.role != "matrix"]
        self._rest = [rest(others)] if others else []
        self._stacks: dict[tuple[int, int], list[Named]] = {}
        for p in parameters:
            if p.role == "matrix":
                rows, columns = p.tensor.shape
                self._stacks.setdefault((rows // p.fused, columns), []).append(p)
        self._states = {
            shape: rule.start(sum(p.fused for p in group), *shape, group[0].tensor.device)
            for shape, group in self._stacks.items()
        }

    @torch.no_grad()
    def step(self, multiplier: float, closure: Gradients, *, decay: float = 1.0) -> None:
        rate = self._lr * multiplier
        for (rows, columns), group in self._stacks.items():
            gradient = torch.cat([_gradient(p).view(p.fused, rows, columns) for p in group])
            update = self._rule.update(gradient, self._states[rows, columns])
            for p, piece in zip(group, update.split([p.fused for p in group]), strict=True):
                change = piece.reshape(p.tensor.shape).to(p.tensor.dtype)
                self._decay(p.tensor, change, rate * decay * self._weight_decay)
                p.tensor.add_(change, alpha=-rate)
        for stepper in self._rest:
            stepper.step(multiplier, closure, decay=decay)

    def _decay(self, weight: Tensor, change: Tensor, share: float) -> None:
        if self._cautious:
            weight.sub_(weight * (change * weight >= 0.0), alpha=share)
        else:
            weight.mul_(1.0 - share)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        yield

    def state(self) -> dict[str, Tensor]:
        rest = {name: tensor for stepper in self._rest for name, tensor in stepper.state().items()}
        return {**self._own(), **rest}

    def load(self, state: dict[str, Tensor]) -> None:
        mine = self._own()
        for name, own in mine.items():
            own.copy_(state[name])
        for stepper in self._rest:
            stepper.load({name: tensor for name, tensor in state.items() if name not in mine})

    def _own(self) -> dict[str, Tensor]:
        return {
            f"{key}/{rows}x{columns}": tensor
            for (rows, columns), state in self._states.items()
            for key, tensor in state.items()
        }


def eigen(stack: Tensor) -> tuple[Tensor, Tensor] | None:
    """Eigenvalues [n, d], rising, and eigenvectors [n, d, d] of symmetric matrices; by fp64 where fp32 does not converge,
    and None where that does not either."""
    for dtype in (stack.dtype, torch.float64):
        try:
            values, vectors = torch.linalg.eigh(stack.to(dtype))
        except torch.linalg.LinAlgError:
            continue
        return values.to(stack.dtype), vectors.to(stack.dtype)
    return None


def units(n: int, d: int, device: torch.device) -> Tensor:
    """n unit matrices [n, d, d], apart from each other in memory."""
    return torch.eye(d, device=device).repeat(n, 1, 1)


def _gradient(parameter: Named) -> Tensor:
    if parameter.tensor.grad is None:
        raise RuntimeError(f"{parameter.name} took no part in the loss")
    return parameter.tensor.grad
