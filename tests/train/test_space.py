"""Room on the disk is asked for before the clock starts, by what a run really writes."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gpuday.core.errors import FitError
from gpuday.core.rundir import RunDir
from gpuday.objectives import Learner, Vocabulary
from gpuday.recipe import Recipe
from gpuday.train import checkpoint, space
from gpuday.train.fit import Fit
from gpuday.train.trial import Trial

VOCAB = 512
TrainRun = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    (tmp_path / "run").mkdir()
    return RunDir(tmp_path / "run")


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=count))


def test_a_disk_with_too_little_room_is_refused_with_both_numbers(
    tiny: Recipe, run: RunDir, pinned: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 4; one byte more is enough."""
    needed = space.needed_bytes(tiny, run, pinned, vocab=VOCAB)
    free(monkeypatch, needed - 1)
    with pytest.raises(FitError) as caught:
        space.check_space(tiny, run, pinned, vocab=VOCAB)
    assert f"{needed:,} bytes" in caught.value.what and f"{needed - 1:,} bytes" in caught.value.what
    assert caught.value.where == str(run.root) and "--out" in caught.value.fix
    free(monkeypatch, needed)
    space.check_space(tiny, run, pinned, vocab=VOCAB)


def test_what_is_asked_for_is_what_checkpoints_take(
    tiny: Recipe, run: RunDir, pinned: Fit, train_run: TrainRun
) -> None:
    """Three of them, as if each parameter had two moments, and the export's weights."""
    beside = space.REST_BYTES + space.ROW_BYTES * 6
    before = space.needed_bytes(tiny, run, pinned, vocab=VOCAB) - beside
    train_run()
    saved = checkpoint.load_newest(run.checkpoints, warn=pytest.fail)
    assert saved is not None
    weights = 4 * sum(tensor.numel() for tensor in saved.model.values())
    assert before == (3 * 3 + 1) * weights
    whole = sum(p.stat().st_size for p in saved.folder.iterdir())
    assert 0.97 * whole < 3 * weights < 1.5 * whole


def test_the_copies_of_an_average_are_asked_for(
    make_recipe: Callable[..., Recipe], run: RunDir, pinned: Fit, train_run: TrainRun
) -> None:
    """Five snapshots more in each of three checkpoints, as the last one of the run has them."""
    recipe = make_recipe(average={"part": "lawa", "k": 5, "every": 0.0})
    beside = space.REST_BYTES + space.ROW_BYTES * 6
    before = space.needed_bytes(recipe, run, pinned, vocab=VOCAB) - beside
    train_run(recipe)
    saved = checkpoint.load_newest(run.checkpoints, warn=pytest.fail)
    assert saved is not None
    weights = 4 * sum(tensor.numel() for tensor in saved.model.values())
    assert before == (3 * (3 + 5) + 1) * weights
    assert sum(4 * t.numel() for name, t in saved.optimizer.items() if name.startswith("average/model")) == 5 * weights


@pytest.mark.parametrize("part", ["shampoo", "soap", "sgd"])
def test_the_state_of_every_optimizer_is_asked_for_as_a_fit_measured_it(
    part: str,
    make_recipe: Callable[..., Recipe],
    run: RunDir,
    pinned: Fit,
    learner: Learner,
    vocabulary: Vocabulary,
    train_run: TrainRun,
) -> None:
    """To the byte what a checkpoint holds, be it more than two moments a parameter or fewer."""
    recipe = make_recipe("1steps", optimizer={"part": part})
    trial = Trial(recipe, learner, dtype=torch.float32, device=torch.device("cpu"), vocabulary=vocabulary)
    trial.point(1)
    fit = dataclasses.replace(pinned, state_bytes=trial.optimizer().state_bytes)
    asked, unknown = (space.needed_bytes(recipe, run, each, vocab=VOCAB) for each in (fit, pinned))
    train_run(recipe)
    saved = checkpoint.load_newest(run.checkpoints, warn=pytest.fail)
    assert saved is not None
    weights, state = (sum(t.nbytes for t in some.values()) for some in (saved.model, saved.optimizer))
    assert fit.state_bytes == state
    assert asked - unknown == 3 * (state - 2 * weights)


def test_checkpoints_that_are_there_are_not_asked_for_again(
    tiny: Recipe, run: RunDir, pinned: Fit, train_run: TrainRun
) -> None:
    """A run that resumes needs room for one more only, and none for an export that it has."""
    before = space.needed_bytes(tiny, run, pinned, vocab=VOCAB)
    train_run()
    after = space.needed_bytes(tiny, run, pinned, vocab=VOCAB)
    assert after < before
    run.model.mkdir()
    assert space.needed_bytes(tiny, run, pinned, vocab=VOCAB) < after
    for name in ("step-00000007", "step-00000008", "step-00000009"):
        (run.checkpoints / name).mkdir()
    assert space.needed_bytes(tiny, run, pinned, vocab=VOCAB) > space.REST_BYTES


def test_rows_that_the_journal_has_are_not_asked_for_again(tiny: Recipe, run: RunDir, pinned: Fit) -> None:
    """A run that is nearly done resumes on a disk with little room."""
    before = space.needed_bytes(tiny, run, pinned, vocab=VOCAB)
    run.journal.write_bytes(b"x" * 1000)
    assert space.needed_bytes(tiny, run, pinned, vocab=VOCAB) == before - 1000
    run.journal.write_bytes(b"x" * 100_000)
    assert space.needed_bytes(tiny, run, pinned, vocab=VOCAB) == before - 6 * space.ROW_BYTES
