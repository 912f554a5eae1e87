"""One optimizer step: gradients over micro-batches, clipping, the non-finite guard, the update."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.objectives import Learner
from gpuday.optim import Stepper
from gpuday.train.batches import Inputs


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
) -> Outcome:
    """Accumulate, guard, clip, update. The device is waited for once, when loss and norm are read.

    An update with a non-finite loss or norm is not made; the caller journals it.
    """
    parameters = [p for p in learner.parameters() if p.requires_grad]

    read: list[Tensor] = []

    def gradients() -> None:
        """This step's gradients at the present weights, clipped; `read` gets loss and norm, still on the device."""
        learner.zero_grad(set_to_none=True)
        total: Tensor | None = None
        for inputs in microbatches():
            loss = learner(inputs)
            loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None  # a step has at least one micro-batch
        grads = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if clip > 0.0:
            torch._foreach_mul_(grads, torch.clamp(clip / (norm + 1e-6), max=1.0))
        read[:] = [total, norm]

    gradients()
    loss, norm = torch.stack(read).tolist()
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
