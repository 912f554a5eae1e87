"""A wall-clock run, made again from its journal: the same bytes, whatever happened to the run while it was made."""

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gpuday.core.journal import Rollback, Start, Step, read, surviving
from gpuday.core.rundir import RunDir
from gpuday.data.prepare import PreparedData
from gpuday.recipe import Recipe
from gpuday.train.device import describe
from gpuday.train.fit import Fit
from gpuday.train.loop import train
from gpuday.train.replay import Replayed, replay

CPU = torch.device("cpu")
BUDGET = "2.5s"


class Killed(BaseException):
    """Stands for kill -9, as far as one process can play it."""


def silent(event: str, /, **values: Any) -> None:
    """A screen that shows nothing."""


def made(run: RunDir) -> list[Step]:
    return [row for _, row in read(run.journal) if isinstance(row, Step)]


def kept(run: RunDir) -> list[Step]:
    return [row for row in surviving(run.journal) if isinstance(row, Step)]


@pytest.fixture(scope="module")
def recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    """Everything that follows from the fraction of the budget moves: rate, weight decay, rows, their length, masks,
    dropout, what is averaged; clipping too."""
    return make_recipe(
        BUDGET,
        train__save_every_seconds=0.3,
        train__dropout=True,
        train__clip=0.5,
        model__dropout=0.1,
        average={"part": "lawa", "k": 3, "every": 0.05},
        batch__rows=16,
        batch__least_tokens=128,
        batch__ramp={"part": "ramp", "start": 0.25, "until": 0.5},
        dropout={"part": "ramp", "start": 1.0, "end": 0.0},
        decay={"part": "ramp", "start": 0.5, "end": 1.5},
        length={"part": "stages", "stages": [[0.4, 0.5], [1.0, 1.0]]},
    )


@pytest.fixture(scope="module")
def fit(pinned: Fit) -> Fit:
    """The pinned fit, on this machine."""
    return dataclasses.replace(pinned, device=describe(CPU), rows=16)


@pytest.fixture
def go(recipe: Recipe, data: PreparedData, fit: Fit, run: RunDir) -> Callable[..., Any]:
    """Train the recipe for its seconds, on this machine. They are those that this process computes, so that the run has
    its steps however busy the machine is."""
    return lambda tell=silent: train(recipe, data, run, fit, device=CPU, tell=tell, now=time.process_time)


@pytest.fixture
def again(recipe: Recipe, data: PreparedData, fit: Fit, run: RunDir) -> Callable[[], Replayed]:
    """Replay it."""
    return lambda: replay(recipe, data, run, fit, device=CPU, tell=silent)


def test_an_undisturbed_run_is_replayed_to_the_bit(
    go: Callable[..., Any], again: Callable[[], Replayed], run: RunDir
) -> None:
    """Losses, gradient norms, weights and optimizer; and the replay says so of a run that it is, and only of that: where
    the journal has another fraction for one step, it names the step behind it, and a tensor."""
    progress, _ = go()
    found = again()
    assert found.equal
    assert (found.steps, found.left_out, found.parted_at, found.differing) == (progress.step, 0, 0, "")
    assert found.tensors > 20
    lines = [json.loads(line) for line in run.journal.read_text().splitlines()]
    wrong = next(line for line in lines if line["kind"] == "step" and line["step"] == 3)
    wrong["fraction"] = 0.99  # more rows at nearly no rate: seen at once, or behind the update on a slow machine
    run.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = again()
    assert not found.equal
    assert found.parted_at in (3, 4)
    assert found.differing == "model.encoder.embedding.weight"


def test_a_run_that_was_killed_and_resumed_is_replayed_to_the_bit(
    go: Callable[..., Any], again: Callable[[], Replayed], run: RunDir
) -> None:
    """Twice: in the first second and after half of the budget. What the kills destroyed is no part of it."""

    def die_after(fraction: float, steps: int) -> Callable[..., None]:
        before = len(made(run))

        def tell(event: str, /, **values: Any) -> None:
            if event == "step" and values["fraction"] > fraction and len(made(run)) >= before + steps:
                raise Killed

        return tell

    for fraction in (0.1, 0.5):
        with pytest.raises(Killed):
            go(die_after(fraction, 2))
    progress, _ = go()
    assert len([row for _, row in read(run.journal) if isinstance(row, Start)]) == 3
    assert len(made(run)) > len(kept(run)) == progress.step
    found = again()
    assert found.equal
    assert found.steps == progress.step


def test_a_run_that_went_back_is_replayed_to_the_bit(
    go: Callable[..., Any], again: Callable[[], Replayed], run: RunDir, injector: Any, numbers: Any
) -> None:
    """Three bad updates in a row and later one alone, and memory that runs out in between: the replay knows nothing of
    what caused them, follows the journal, and reads each micro-batch in the size that it had."""
    from_rows: list[int] = []

    def tell(event: str, /, **values: Any) -> None:
        if event != "step":
            return
        count = len(made(run))
        following = values["first_row"] + values["rows"]
        if count in (5, 6, 7, 12):
            from_rows.append(following)
            injector.bad.append(numbers.Bad(following, numbers.loss_times(float("nan"))))
        injector.most_rows = 2 if count >= 10 else injector.most_rows

    progress, _ = go(tell)
    injector.bad.clear()
    injector.most_rows = 1 << 30
    (row,) = [row for _, row in read(run.journal) if isinstance(row, Rollback)]
    assert row.from_step == 8 and row.step < 6
    assert [step.first_row for step in made(run) if step.skipped] == from_rows
    assert {step.microbatch for step in kept(run)} == {4, 2}
    found = again()
    assert found.equal
    assert (found.steps, found.left_out) == (progress.step - 1, 1)
