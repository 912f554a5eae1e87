"""Optimizers that look at more than one point, in a real step: what their closure gives them, and what it refuses."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuday.objectives import Learner, Objective
from gpuday.optim import Gradients, Named, Stepper
from gpuday.optim.adamw import Adamw
from gpuday.optim.sam import Sam
from gpuday.optim.sgd import Sgd
from gpuday.optim.sophia import Sophia
from gpuday.recipe import Recipe
from gpuday.train.parallel import Ranks
from gpuday.train.step import Outcome, take_step

PLAIN = Sgd(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)


class Valley(Learner):
    """Loss sum of scale * curvature * w^2 / 2; with `dropout` some weights do not take part, and beyond `cliff` it is NaN."""

    def __init__(self, *, dropout: float = 0.0, cliff: float = float("inf")) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        self._curvature, self._dropout, self._cliff = torch.tensor([1.0, 0.5, 3.0]), dropout, cliff

    @property
    def predictor(self) -> Any:
        raise NotImplementedError

    def forward(self, inputs: dict[str, Tensor], kind: str) -> Tensor:
        each = torch.nn.functional.dropout(0.5 * self._curvature * self.w**2, self._dropout)
        loss = (inputs["scale"] * each).sum()
        return torch.where(self.w.abs().max() > self._cliff, float("nan"), 1.0) * loss

    def compile(self, **options: Any) -> None:
        raise NotImplementedError


class Asking(Stepper):
    """Asks for the gradients anew where the weights are, and keeps them."""

    def __init__(self, learner: Valley, **clip: bool) -> None:
        self._learner, self._clip = learner, clip
        self.first, self.again = torch.empty(0), torch.empty(0)

    def step(self, multiplier: float, closure: Gradients, *, decay: float = 1.0) -> None:
        self.first = self._learner.w.grad.clone()
        closure(**self._clip)
        self.again = self._learner.w.grad.clone()

    def evaluation(self) -> AbstractContextManager[None]:
        return nullcontext()

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        pass


def built(optimizer: Sam | Sophia, learner: Valley) -> Stepper:
    return optimizer.build([Named(name="w", tensor=learner.w, role="vector")])


def rows(*scales: float) -> Callable[[], Iterator[dict[str, Tensor]]]:
    """A micro-batch for every scale."""
    return lambda: iter([{"scale": torch.tensor(scale)} for scale in scales])


def made(learner: Valley, stepper: Stepper, *, clip: float = 0.0) -> Outcome:
    """A step of two micro-batches, the scale of both together 1."""
    return take_step(
        learner, stepper, rows(0.25, 0.75), multiplier=1.0, kind="masked", clip=clip, ranks=Ranks()
    )  # fmt: skip


def test_sam_in_the_loop_equals_its_two_steps_by_hand() -> None:
    """Both gradients over all micro-batches; the second is clipped, the first only gives a direction."""
    learner, c = Valley(), torch.tensor([1.0, 0.5, 3.0])
    stepper, w = built(Sam(distance=0.3, inner=PLAIN), learner), learner.w.detach().clone()
    for _ in range(3):
        assert not made(learner, stepper, clip=0.2).skipped
        uphill = c * (w + 0.3 * c * w / (c * w).norm())
        w = w - 0.1 * uphill * 0.2 / uphill.norm()
    torch.testing.assert_close(learner.w.detach(), w, atol=1e-5, rtol=1e-5)


def test_sophia_in_the_loop_finds_the_curvature_whatever_the_clipping() -> None:
    """Two gradients that were clipped, each by its own norm, would differ by something else."""
    learner = Valley()
    stepper = built(Sophia(distance=0.1), learner)
    made(learner, stepper, clip=0.01)
    torch.testing.assert_close(stepper.state()["w/hessian"], 0.01 * torch.tensor([1.0, 0.5, 3.0]))
    torch.testing.assert_close(stepper.state()["w/momentum"].norm(), torch.tensor(0.04 * 0.01), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("clip", [True, False])
def test_gradients_are_clipped_as_the_loop_clips_unless_asked_otherwise(clip: bool) -> None:
    """The norm of (1, -1, 1.5) is 2.06."""
    learner = Valley()
    stepper = Asking(learner, clip=clip)
    made(learner, stepper, clip=0.5)
    assert stepper.first.norm().item() == pytest.approx(0.5, rel=1e-4)
    assert stepper.again.norm().item() == pytest.approx(0.5 if clip else 4.25**0.5, rel=1e-4)


def test_gradients_anew_have_the_dropout_of_the_first() -> None:
    """At the same weights they are the same to the bit: a difference between two points is of the points alone."""
    learner, seen = Valley(dropout=0.5), set()
    stepper = Asking(learner)
    torch.manual_seed(0)
    for _ in range(8):
        made(learner, stepper)
        assert torch.equal(stepper.first, stepper.again)
        seen.add(tuple(stepper.first.tolist()))
    assert len(seen) > 1  # each step has its own, the stream goes on


@pytest.mark.parametrize("optimizer", [Sam(distance=1.0, inner=Adamw()), Sophia(distance=1.0)], ids=["sam", "sophia"])
def test_what_is_not_finite_at_another_point_makes_a_skipped_step(optimizer: Sam | Sophia) -> None:
    """The loss is fine where the weights are and NaN where the optimizer looks: nothing moves, and the reason is told."""
    learner = Valley(cliff=2.2)
    stepper = built(optimizer, learner)
    weights, state = learner.w.detach().clone(), {name: t.clone() for name, t in stepper.state().items()}
    outcome = made(learner, stepper)
    assert (outcome.skipped, outcome.loss) == (True, pytest.approx(1.875))
    assert "not finite" in outcome.reason and "another point" in outcome.reason
    assert torch.equal(learner.w.detach(), weights)
    assert all(torch.equal(tensor, state[name]) for name, tensor in stepper.state().items())
    learner._cliff = float("inf")
    assert not made(learner, stepper).skipped
    assert torch.isfinite(learner.w).all() and not torch.equal(learner.w.detach(), weights)


class Counted:
    """An objective, and how often it was asked for inputs."""

    def __init__(self, objective: Objective) -> None:
        self._objective, self.times = objective, 0

    def inputs(self, *arguments: Any, **options: Any) -> Any:
        self.times += 1
        return self._objective.inputs(*arguments, **options)


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_what_was_made_for_the_next_step_is_kept_while_rows_are_read_again(
    make_batches: Callable[..., Any], tiny: Recipe, passes: int
) -> None:
    """Steps of two micro-batches, read so often: each reading makes two, and nothing is made that is not read, but for the
    beginning of the step that does not come."""
    counted = Counted(tiny.objective)
    batches = make_batches(objective=counted)
    for step in range(4):
        for _ in range(passes):
            assert len(list(batches.step(8 * step, 8, multiplier=1.0, kind="masked", microbatch=4))) == 2
            batches._worker.submit(int).result()  # what was begun is done
    assert counted.times == 4 * passes * 2 + 1


def test_what_was_made_ahead_is_given_up_where_the_next_step_is_another(
    make_batches: Callable[..., Any], tiny: Recipe
) -> None:
    """At another mask rate: nothing of it stays in memory."""
    batches = make_batches()
    for step in range(3):
        list(batches.step(8 * step, 8, multiplier=1.0 / (1 + step), kind="masked", microbatch=4))
        assert [(guess.start, guess.multiplier) for guess in batches._ahead] == [(8 * step + 8, 1.0 / (1 + step))]
