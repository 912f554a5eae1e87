"""One optimizer step: gradients over micro-batches and ranks, clipping, the non-finite guard, the update."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.objectives import Learner
from gpuday.optim import Stepper
from gpuday.train.batches import Inputs
from gpuday.train.device import is_out_of_memory
from gpuday.train.parallel import Ranks


@dataclass(frozen=True)
class Outcome:
    """Mean loss over the step's predicted tokens in nats, global gradient norm before clipping, whether it counted."""

    loss: float
    gradient_norm: float
    skipped: bool


class TooLarge(Exception):
    """A micro-batch did not fit the memory of this rank's device, or of another's. No weight was touched."""


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
    total = torch.zeros((), device=parameters[0].device)
    read: list[Tensor] = []

    def accumulate() -> None:
        """The gradients and the loss of this rank's micro-batches at the present weights."""
        learner.zero_grad(set_to_none=True)
        total.zero_()
        for inputs in microbatches():
            loss = learner(inputs)
            loss.backward()
            total.add_(loss.detach())

    def combine() -> None:
        """Those of the whole step, clipped; `read` gets loss and norm, still on the device."""
        grads = [p.grad for p in parameters if p.grad is not None]
        ranks.add([total, *grads])
        norm = torch.nn.utils.get_total_norm(grads)
        if clip > 0.0:
            torch._foreach_mul_(grads, torch.clamp(clip / (norm + 1e-6), max=1.0))
        read[:] = [total, norm]

    def gradients() -> None:
        accumulate()
        combine()

    if any(ranks.largest([not _fits(accumulate)])):
        learner.zero_grad(set_to_none=True)
        raise TooLarge
    combine()
    loss, norm = torch.stack(read).tolist()
    skipped = not (math.isfinite(loss) and math.isfinite(norm))
    if not skipped:
        stepper.step(multiplier, gradients)
    return Outcome(loss, norm, skipped)


def _fits(call: Callable[[], None]) -> bool:
    """Whether there is memory for the call. Behind it, what the call held is free again."""
    try:
        call()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


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
