"""One optimizer step: gradients over micro-batches and ranks, clipping, the guard, the update."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gpuday.objectives import Learner
from gpuday.optim import Refused, Stepper
from gpuday.train.batches import Inputs
from gpuday.train.guard import not_finite
from gpuday.train.noise import Estimate, Halves, estimate, products
from gpuday.train.parallel import Ranks, TooLarge
from gpuday.train.signals import Interruptible, Leave


@dataclass(frozen=True)
class Outcome:
    """Mean loss over the step's predicted tokens in nats, global gradient norm before clipping, and whether the update was
    left out, with the reason; what its halves say of the gradient's noise, where that was asked; and how many times its
    gradients were computed, at whatever points."""

    loss: float
    gradient_norm: float
    skipped: bool
    reason: str = ""
    noise: Estimate | None = None
    gradients: int = 1


class Rest(NamedTuple):
    """The second half of a step, whose gradient is to be told from that of the first, and the rows of both."""

    microbatches: Callable[[], Iterable[Inputs]]
    halves: Halves


def take_step(
    learner: Learner,
    stepper: Stepper,
    microbatches: Callable[[], Iterable[Inputs]],
    *,
    multiplier: float,
    kind: str,
    decay: float = 1.0,
    clip: float,
    ranks: Ranks,
    rest: Rest | None = None,
    refuse: Callable[[float, float], str] = not_finite,
    interruptible: Interruptible = nullcontext,
) -> Outcome:
    """Accumulate, sum over the ranks, guard, clip, update, at these shares of the peak rates and the peak weight decay, in
    a step of this `kind` of the objective's. The device is waited for once, when loss and norm are read. Where a `rest` is
    given, the micro-batches are the first half of the step's alone; telling the halves apart takes a copy of the gradients.

    An update is not made when `refuse` has a reason against its loss and norm, which are the same on all ranks, or when
    the optimizer meets a point where they are not finite; the caller journals it. Raises TooLarge, on all ranks, when
    memory ran out on one for gradients, at another point that the optimizer looked at, too: it has put back the weights
    by then. In the update itself it is an error like any other. Raises Leave, on all ranks, when one came within
    `interruptible` on one of them: the first gradients are computed in such blocks, one for each micro-batch. Neither
    leaves gradients behind.
    """
    parameters = [p for p in learner.parameters() if p.requires_grad]

    def accumulate(within: Interruptible) -> tuple[list[Tensor], Tensor]:
        """The loss and the gradients of this rank's micro-batches at the present weights, and room to add the ranks'."""
        learner.zero_grad(set_to_none=True)
        total = torch.zeros((), device=parameters[0].device)
        first: list[Tensor] = []
        for half in (microbatches, rest.microbatches) if rest else (microbatches,):
            if half is not microbatches:
                first = [p.grad.clone() for p in parameters if p.grad is not None]
            for inputs in half():
                with within():
                    loss = learner(inputs, kind)
                    loss.backward()
                    total.add_(loss.detach())
        mine = [total, *(p.grad for p in parameters if p.grad is not None), *first]
        return mine, ranks.room(mine)

    def combine(mine: list[Tensor], room: Tensor, limit: float = clip) -> Tensor:
        """Those of the whole step, clipped; loss, norm, and what the halves are told by [2 or 5], still on the device."""
        ranks.add(mine, room)
        total, *grads = mine
        grads, first = (grads[: len(grads) // 2], grads[len(grads) // 2 :]) if rest else (grads, [])
        norm = torch.nn.utils.get_total_norm(grads)
        told = [total[None], norm[None], *([products(first, grads)] if rest else [])]
        if limit > 0.0:
            torch._foreach_mul_(grads, torch.clamp(limit / (norm + 1e-6), max=1.0))
        return torch.cat(told)

    device = parameters[0].device
    computed = 1
    drawn = torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def gradients(*, clip: bool = True) -> None:
        """In the middle of an update, with the dropout of the first time."""
        nonlocal computed
        on_host, on_device = drawn
        torch.set_rng_state(on_host)
        if on_device is not None:
            torch.cuda.set_rng_state(on_device, device)
        mine = ranks.attempt(partial(accumulate, nullcontext))
        added = ranks.attempt(partial(combine, *mine) if clip else partial(combine, *mine, limit=0.0))
        loss, norm, *_ = added.tolist()
        computed += 1
        if reason := not_finite(loss, norm):
            raise Refused(f"{reason} at another point that the optimizer looked at")

    try:
        read = ranks.attempt(partial(combine, *ranks.attempt(partial(accumulate, interruptible))))
    except (TooLarge, Leave):
        learner.zero_grad(set_to_none=True)
        raise
    loss, norm, *told = read.tolist()
    reason = refuse(loss, norm)
    if not reason:
        try:
            stepper.step(multiplier, gradients, decay=decay)
        except Refused as refused:
            reason = str(refused)
        except TooLarge:
            learner.zero_grad(set_to_none=True)
            raise
    noise = estimate(*told, halves=rest.halves) if rest and not reason else None
    return Outcome(loss, norm, bool(reason), reason, noise, computed)
