"""One optimizer step: gradients over micro-batches and ranks, clipping, the guard, the update."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gpuday.objectives import Learner
from gpuday.optim import Stepper
from gpuday.train.batches import Inputs
from gpuday.train.guard import not_finite
from gpuday.train.parallel import Ranks, TooLarge
from gpuday.train.signals import Interruptible, Leave


@dataclass(frozen=True)
class Outcome:
    """Mean loss over the step's predicted tokens in nats, global gradient norm before clipping, and whether the update was
    left out, with the reason."""

    loss: float
    gradient_norm: float
    skipped: bool
    reason: str = ""


def take_step(
    learner: Learner,
    stepper: Stepper,
    microbatches: Callable[[], Iterable[Inputs]],
    *,
    multiplier: float,
    clip: float,
    ranks: Ranks,
    refuse: Callable[[float, float], str] = not_finite,
    interruptible: Interruptible = nullcontext,
) -> Outcome:
    """Accumulate, sum over the ranks, guard, clip, update. The device is waited for once, when loss and norm are read.

    An update is not made when `refuse` has a reason against its loss and norm, which are the same on all ranks; the
    caller journals it. Raises TooLarge, on all ranks, when memory ran out on one before the update; during the update it
    is an error like any other. Raises Leave, on all ranks, when one came within `interruptible` on one of them: gradients
    are computed in such blocks, one for each micro-batch. Neither leaves gradients behind.
    """
    parameters = [p for p in learner.parameters() if p.requires_grad]

    def accumulate(within: Interruptible) -> tuple[list[Tensor], Tensor]:
        """The loss and the gradients of this rank's micro-batches at the present weights, and room to add the ranks'."""
        learner.zero_grad(set_to_none=True)
        total = torch.zeros((), device=parameters[0].device)
        for inputs in microbatches():
            with within():
                loss = learner(inputs)
                loss.backward()
                total.add_(loss.detach())
        mine = [total, *(p.grad for p in parameters if p.grad is not None)]
        return mine, ranks.room(mine)

    def combine(mine: list[Tensor], room: Tensor) -> Tensor:
        """Those of the whole step, clipped; loss and norm [2], still on the device."""
        ranks.add(mine, room)
        total, *grads = mine
        norm = torch.nn.utils.get_total_norm(grads)
        if clip > 0.0:
            torch._foreach_mul_(grads, torch.clamp(clip / (norm + 1e-6), max=1.0))
        return torch.stack([total, norm])

    def gradients() -> None:
        combine(*accumulate(nullcontext))  # in the middle of an update

    try:
        read = ranks.attempt(partial(combine, *ranks.attempt(partial(accumulate, interruptible))))
    except (TooLarge, Leave):
        learner.zero_grad(set_to_none=True)
        raise
    loss, norm = read.tolist()
    reason = refuse(loss, norm)
    if not reason:
        stepper.step(multiplier, gradients)
    return Outcome(loss, norm, bool(reason), reason)


class MaskLevels:
    """A scheduled mask rate moves through a few values, since each compiles the head once."""

    def __init__(self, schedule: Callable[[float], float], levels: int) -> None:
        samples = [schedule(i / 100) for i in range(101)]
        low, high = min(samples), max(samples)
        self._schedule = schedule
        self._values = [high] if levels < 2 else [low + (high - low) * i / (levels - 1) for i in range(levels)]

    def __call__(self, fraction: float) -> float:
        """The level nearest to the schedule's value at this fraction of the budget."""
        wanted = self._schedule(fraction)
        return min(self._values, key=lambda value: abs(value - wanted))
