"""One optimizer step: gradients over micro-batches and ranks, clipping, the non-finite guard, the update."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gpuday.objectives import Learner
from gpuday.optim import Stepper
from gpuday.train.batches import Inputs
from gpuday.train.parallel import Ranks, TooLarge


@dataclass(frozen=True)
class Outcome:
    """Mean loss over the step's predicted tokens in nats, global gradient norm before clipping, whether it counted."""

    loss: float
    gradient_norm: float
    skipped: bool


def take_step(
    learner: Learner,
    stepper: Stepper,
    microbatches: Callable[[], Iterable[Inputs]],
    *,
    multiplier: float,
    clip: float,
    ranks: Ranks,
) -> Outcome:
    """Accumulate, sum over the ranks, guard, clip, update. The device is waited for once, when loss and norm are read.

    An update with a non-finite loss or norm is not made; the caller journals it. Raises TooLarge, on all ranks, when
    memory ran out on one before the update; during the update it is an error like any other.
    """
    parameters = [p for p in learner.parameters() if p.requires_grad]

    def accumulate() -> tuple[list[Tensor], Tensor]:
        """The loss and the gradients of this rank's micro-batches at the present weights, and room to add the ranks'."""
        learner.zero_grad(set_to_none=True)
        total = torch.zeros((), device=parameters[0].device)
        for inputs in microbatches():
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
        combine(*accumulate())

    try:
        read = ranks.attempt(partial(combine, *ranks.attempt(accumulate)))
    except TooLarge:
        learner.zero_grad(set_to_none=True)
        raise
    loss, norm = read.tolist()
    skipped = not (math.isfinite(loss) and math.isfinite(norm))
    if not skipped:
        stepper.step(multiplier, gradients)
    return Outcome(loss, norm, skipped)


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
