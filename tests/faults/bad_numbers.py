"""Puts bad numbers into a training, at given rows of its stream, and watches what they do to weights and optimizer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuday.objectives import Learner
from gpuday.objectives.mlm import MaskedLearner
from gpuday.optim import Stepper
from gpuday.train import stepping
from gpuday.train.batches import Batches
from gpuday.train.step import Outcome

Change = Callable[[Learner, Tensor], Tensor]
ROW = 32  # tokens of the tiny recipe's rows, in however many pieces they are read


class _Scaled(torch.autograd.Function):
    """The same value, and a gradient `factor` times as large."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def loss_times(factor: float) -> Change:
    return lambda learner, loss: loss * factor


def gradient_times(factor: float) -> Change:
    return lambda learner, loss: _Scaled.apply(loss, factor)


def nan_in_one_gradient(learner: Learner, loss: Tensor) -> Tensor:
    """One element of one parameter; loss and all other gradients are what they are."""
    parameter = next(p for name, p in learner.named_parameters() if name.endswith("norm.weight"))

    def poison(gradient: Tensor) -> Tensor:
        handle.remove()
        bad = gradient.clone()
        bad.view(-1)[0] = float("nan")
        return bad

    handle = parameter.register_hook(poison)
    return loss


@dataclass
class Bad:
    """What to do to the step that begins with row `first_row`: to its micro-batch `index`, or to all where it is None."""

    first_row: int
    change: Change
    index: int | None = None


@dataclass
class Injector:
    """Changes losses by row, and notes of each step its outcome and whether weights or optimizer state moved."""

    bad: list[Bad] = field(default_factory=list)
    steps: list[tuple[Outcome, bool]] = field(default_factory=list)
    microbatches: list[int] = field(default_factory=list)
    """Rows of each micro-batch that was computed."""
    most_rows: int = 1 << 30
    """More rows at a time than this are out of memory."""
    _now: tuple[int, int] = (-1, -1)

    def installed(self, patch: pytest.MonkeyPatch) -> "Injector":
        """At work until the test ends."""
        forward, read, take = MaskedLearner.forward, Batches.step, stepping.take_step

        def changed(learner: MaskedLearner, inputs: dict[str, Tensor], kind: str) -> Tensor:
            count = inputs["ids"].numel() // ROW
            self.microbatches.append(count)
            if count > self.most_rows:
                raise torch.OutOfMemoryError("out of memory")
            loss = forward(learner, inputs, kind)
            for bad in self.bad:
                if bad.first_row == self._now[0] and bad.index in (None, self._now[1]):
                    loss = bad.change(learner, loss)
            return loss

        def located(batches: Batches, position: int, rows: int, **options: Any) -> Iterator[dict[str, Tensor]]:
            for index, inputs in enumerate(read(batches, position, rows, **options)):
                self._now = position, index
                yield inputs

        def watched(learner: Learner, stepper: Stepper, *rest: Any, **options: Any) -> Outcome:
            before = _bytes(learner, stepper)
            outcome = take(learner, stepper, *rest, **options)
            self.steps.append((outcome, _bytes(learner, stepper) != before))
            return outcome

        patch.setattr(MaskedLearner, "forward", changed)
        patch.setattr(Batches, "step", located)
        patch.setattr(stepping, "take_step", watched)
        return self


def _bytes(learner: Learner, stepper: Stepper) -> dict[str, bytes]:
    tensors = {**dict(learner.named_parameters()), **stepper.state()}
    return {name: t.detach().reshape(-1).view(torch.uint8).numpy().tobytes() for name, t in tensors.items()}


KINDS: dict[str, Callable[[int], Bad]] = {
    "NaN in the loss": partial(Bad, change=loss_times(float("nan"))),
    "Inf in the loss": partial(Bad, change=loss_times(float("inf"))),
    "Inf in the gradient": partial(Bad, change=gradient_times(float("inf"))),
    "NaN in one micro-batch": partial(Bad, change=loss_times(float("nan")), index=1),
    "NaN in one parameter's gradient": partial(Bad, change=nan_in_one_gradient, index=0),
    "200 times the gradient": partial(Bad, change=gradient_times(200.0)),
    "200 times the loss": partial(Bad, change=loss_times(200.0)),
}
