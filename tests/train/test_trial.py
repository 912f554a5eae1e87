"""Trials: what is timed is what training does, and bytes are those above what stays."""

import dataclasses
import math
import mmap
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from gpuday.objectives import Learner, Vocabulary
from gpuday.optim import Gradients, Named, Optimizer, Stepper
from gpuday.optim.sam import Sam
from gpuday.optim.sophia import Sophia
from gpuday.recipe import Recipe
from gpuday.train import trial as trials
from gpuday.train.device import configure
from gpuday.train.trial import Allowance, Trial, gradient_seconds, random_inputs

CPU = torch.device("cpu")


@pytest.fixture
def trial(tiny: Recipe, learner: Learner, vocabulary: Vocabulary) -> Trial:
    return Trial(tiny, learner, dtype=torch.float32, device=CPU, vocabulary=vocabulary)


def test_a_point_is_measured_on_the_real_learner(trial: Trial, learner: Learner) -> None:
    """Seconds above zero, and gradients that an optimizer could use."""
    point = trial.point(4)
    assert point.rows == 4 and 0 < point.seconds < 60
    assert all(p.grad is not None for p in learner.parameters())


def test_the_optimizer_is_the_recipes_own(trial: Trial, learner: Learner) -> None:
    """It moves every parameter that has a gradient, asks for no second one, and takes time."""
    trial.point(4)
    before = [p.detach().clone() for p in learner.parameters()]
    cost = trial.optimizer()
    assert cost.seconds > 0 and cost.more_gradients == 0
    pulled = [
        (old, p) for old, p in zip(before, learner.parameters(), strict=True) if p.grad is not None and p.grad.any()
    ]
    assert pulled and not any(torch.equal(old, p) for old, p in pulled)


def test_a_tenth_of_what_is_free_stays_free(
    monkeypatch: pytest.MonkeyPatch, tiny: Recipe, learner: Learner, vocabulary: Vocabulary
) -> None:
    """Of 1,000 bytes 900 may be planned with."""
    monkeypatch.setattr(trials, "free_memory", lambda device: 1000)
    assert Trial(tiny, learner, dtype=torch.float32, device=CPU, vocabulary=vocabulary).room == 900


def test_ranks_share_what_is_free(
    monkeypatch: pytest.MonkeyPatch, tiny: Recipe, learner: Learner, vocabulary: Vocabulary
) -> None:
    """By hand, four ranks of a CPU: of 900 bytes three others will hold 40 each, and a quarter of the rest is this one's."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(trials, "free_memory", lambda device: 1000)
    monkeypatch.setattr(trials, "_held", lambda device: 40)
    assert Trial(tiny, learner, dtype=torch.float32, device=CPU, vocabulary=vocabulary).room == 195


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_bytes_are_those_of_the_micro_batch_whatever_was_freed_and_kept_before(
    monkeypatch: pytest.MonkeyPatch, trial: Trial
) -> None:
    """A micro-batch of 64 MiB needs 64 MiB, after one of 256 MiB as well."""
    configure(CPU)
    trial.point(4)
    sizes = iter([256, 64])

    def passes(*_: object) -> float:
        torch.ones(next(sizes) << 18)
        return 1.0

    monkeypatch.setattr(trials, "gradient_seconds", passes)
    assert trial.point(4).bytes > 230 << 20
    trial.optimizer()
    assert 58 << 20 < trial.point(4).bytes < 90 << 20


def test_bytes_grow_with_what_is_allocated() -> None:
    """A block that lifts the process above every peak it had shows in full."""
    trials._reset_peak(CPU)
    start = trials._held(CPU)
    # Mapped by itself: the allocator may have kept memory that another test freed.
    block = np.frombuffer(mmap.mmap(-1, trials._peak(CPU) - start + (64 << 20)), dtype=np.uint8)
    block[:] = 1
    assert trials._peak(CPU) - start > 0.9 * block.nbytes


def test_random_inputs_have_the_shapes_of_training(tiny: Recipe, vocabulary: Vocabulary) -> None:
    """Four rows of 32 tokens, 40% of which are predicted: 13 a row; all but one of each in the largest kind of step."""
    inputs = random_inputs(tiny, 4, vocabulary, CPU, kind="masked")
    assert inputs["ids"].shape == (4, 32)
    assert inputs["labels"].shape == (4 * round(0.4 * 32),)
    assert int(inputs["ids"].max()) < vocabulary.size
    assert random_inputs(tiny, 4, vocabulary, CPU)["labels"].shape == (4 * 31,)


def test_each_kind_of_step_that_a_run_has_is_timed(
    monkeypatch: pytest.MonkeyPatch, tiny: Recipe, learner: Learner, vocabulary: Vocabulary
) -> None:
    """In its own kind, on as many rows; one that never comes is not."""
    heard: list[tuple[str, int]] = []
    forward = type(learner).forward
    monkeypatch.setattr(
        type(learner),
        "forward",
        lambda self, inputs, kind: heard.append((kind, len(inputs["labels"]))) or forward(self, inputs, kind),
    )
    for first, wanted in ((0.25, {("causal", 3 * 31), ("masked", 3 * 13)}), (1.0, {("causal", 3 * 31)})):
        heard.clear()
        recipe = dataclasses.replace(tiny, objective=dataclasses.replace(tiny.objective, first=first))
        seconds = Trial(recipe, learner, dtype=torch.float32, device=CPU, vocabulary=vocabulary).seconds(3)
        assert set(heard) == wanted and set(seconds) == {kind for kind, _ in wanted}
        assert all(0 < value < 60 for value in seconds.values())


def test_the_first_pass_only_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of 9, 3 and 2 s by an injected clock: 2 s it is."""
    ticks = iter([0.0, 9.0, 10.0, 13.0, 20.0, 22.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    weight = torch.nn.Linear(1, 1)
    assert gradient_seconds(lambda: weight(torch.ones(1)).flatten(), CPU) == 2.0


@pytest.mark.parametrize(("budget", "wanted"), [(30.0, 7.5), (240.0, 60.0), (86_400.0, 60.0), (math.inf, 60.0)])
def test_a_fit_takes_a_minute_or_a_quarter_of_the_budget(
    monkeypatch: pytest.MonkeyPatch, budget: float, wanted: float
) -> None:
    """Whichever is less: nobody waits a minute for half a minute of training."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    allowance = Allowance()
    allowance.limit(budget)
    now[0] += 2.0
    assert allowance.left() == wanted - 2.0
    assert allowance.left(0.5) == wanted / 2 - 2.0
    assert allowance.used() == 2.0


class Watch:
    """A time that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Dear(Optimizer):
    """Every fifth update takes 10 s by a watch, from the first one on, and the others 1 s."""

    watch: ClassVar[Watch] = Watch()

    @property
    def period(self) -> int:
        return 5

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        return DearStepper(self.watch)


class DearStepper(Stepper):
    def __init__(self, watch: Watch) -> None:
        self._watch, self._steps = watch, 0

    def step(self, multiplier: float, closure: Gradients, *, decay: float = 1.0) -> None:
        self._watch.seconds += 1.0 if self._steps % 5 else 10.0
        self._steps += 1

    def evaluation(self) -> AbstractContextManager[None]:
        return nullcontext()

    def state(self) -> dict[str, Tensor]:
        return {"a": torch.zeros(10), "b": torch.zeros((), dtype=torch.float64)}

    def load(self, state: dict[str, Tensor]) -> None:
        pass


@pytest.mark.parametrize(("most", "updates"), [(100.0, 6), (12.0, 3)])
def test_updates_that_cost_more_now_and_then_count_in_the_mean(
    monkeypatch: pytest.MonkeyPatch, tiny: Recipe, learner: Learner, vocabulary: Vocabulary, most: float, updates: int
) -> None:
    """By hand: (4 * 1 + 10) / 5 = 2.8 s, from a whole period behind the first update, and from that one and what there is
    time for."""
    watch = Watch()
    monkeypatch.setattr(Dear, "watch", watch)
    monkeypatch.setattr(time, "perf_counter", watch)
    monkeypatch.setattr(trials, "MOST_UPDATE_SECONDS", most)
    recipe = dataclasses.replace(tiny, optimizer=Dear())
    trial = Trial(recipe, learner, dtype=torch.float32, device=CPU, vocabulary=vocabulary)
    cost = trial.optimizer()
    assert (cost.seconds, cost.more_gradients, cost.state_bytes) == (pytest.approx(2.8), 0.0, 48)
    assert trial._weights.stepper._steps == updates


@pytest.mark.parametrize(
    ("optimizer", "wanted"), [(Sophia(interval=4), 0.5), (Sam(), 1.0), (Sam(inner=Sophia(interval=4)), 1.5)]
)
def test_gradients_that_are_asked_for_now_and_then_count_in_the_mean(
    tiny: Recipe, learner: Learner, vocabulary: Vocabulary, optimizer: Optimizer, wanted: float
) -> None:
    """Sophia's two in four updates, SAM's one in each, and both."""
    recipe = dataclasses.replace(tiny, optimizer=optimizer)
    trial = Trial(recipe, learner, dtype=torch.float32, device=CPU, vocabulary=vocabulary)
    trial.point(1)
    cost = trial.optimizer()
    assert cost.more_gradients == wanted and cost.seconds > 0


class Holding(Optimizer):
    """Asks for gradients while it holds 64 MiB."""

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        return HoldingStepper(Watch())


class HoldingStepper(DearStepper):
    def step(self, multiplier: float, closure: Gradients, *, decay: float = 1.0) -> None:
        block = torch.ones(64 << 18)
        closure()
        del block


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_what_is_held_while_gradients_are_asked_for_counts_in_every_point(
    tiny: Recipe, learner: Learner, vocabulary: Vocabulary
) -> None:
    """64 MiB beside the micro-batch, from then on."""
    configure(CPU)
    recipe = dataclasses.replace(tiny, optimizer=Holding())
    trial = Trial(recipe, learner, dtype=torch.float32, device=CPU, vocabulary=vocabulary)
    before = trial.point(4).bytes
    trial.optimizer()
    assert 56 << 20 < trial.point(4).bytes - before < 90 << 20
