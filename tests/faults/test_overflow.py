"""Updates of finite numbers that overflow, and the way back that signals and bad disks must not bar."""

import errno
import math
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from gpuday.core.errors import Interrupted
from gpuday.core.journal import Note, Rollback
from gpuday.core.rundir import RunDir
from gpuday.train import checkpoint, stepping
from trained_run import STEADY, newest, rows

TrainRun = Callable[..., Any]
AtRows = Callable[..., list[Any]]


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], None]:
    """`poisoned(12, "weights")`: the update of the twelfth step overflows, in weights or in the optimizer's state."""

    def set_up(call: int, what: str) -> None:
        take, calls = stepping.take_step, [0]

        def taken(learner: Any, stepper: Any, *rest: Any, **options: Any) -> Any:
            outcome = take(learner, stepper, *rest, **options)
            calls[0] += 1
            if calls[0] == call:
                tensors = dict(learner.named_parameters()) if what == "weights" else stepper.state()
                next(t for t in tensors.values() if t.numel() > 1).detach().view(-1)[0] = float("inf")
            return outcome

        monkeypatch.setattr(stepping, "take_step", taken)

    return set_up


@pytest.mark.parametrize("saved", [False, True])
def test_a_last_update_that_overflows_ends_the_run_with_its_newest_sound_weights(
    stopped_at_10: Any, train_run: TrainRun, run: RunDir, poisoned: Any, at_step: Any, send: Any, saved: bool
) -> None:
    """The final look finds it: the checkpoint before is looked at and saved as the end, later ones are gone, and it is
    told; also where a signal came in between and the bad weights were saved. The same command then finds a finished run."""
    recipe = stopped_at_10("13steps")
    poisoned(2 if saved else 3, "weights")
    if saved:
        with pytest.raises(Interrupted):
            train_run(recipe, tell=at_step(12, send(signal.SIGTERM)))
        assert checkpoint.steps(run.checkpoints) == [12, 10]
    progress, _ = train_run(recipe)
    assert (progress.step, progress.rolled_back_to) == (10, 10)
    assert math.isfinite(progress.final["nats_per_token"])
    assert newest(run).state["progress"]["final"] == progress.final
    assert checkpoint.steps(run.checkpoints)[0] == 10
    assert [(row.step, row.from_step) for row in rows(run, Rollback)] == [(10, 13)]
    assert any(
        "the run ends with the weights of step 10, and not of step 13" in note.message for note in rows(run, Note)
    )
    assert train_run(recipe)[0] == progress


@pytest.mark.parametrize("what", ["weights", "optimizer"])
def test_what_is_not_finite_is_not_saved_but_gone_back_from(
    train_run: TrainRun, make_recipe: Callable[..., Any], run: RunDir, poisoned: Any, what: str
) -> None:
    """A save that is due finds it, before three updates fail, or none does: one step is lost, and the run ends as ever."""
    poisoned(7, what)
    progress, _ = train_run(make_recipe("10steps", train__save_every_seconds=0.0, **STEADY))
    assert [(row.step, row.from_step) for row in rows(run, Rollback)] == [(6, 7)]
    assert rows(run, Rollback)[0].reason == "weights or optimizer state are not finite"
    assert (progress.step, progress.position) == (10, 88)
    assert all(
        bool(t.isfinite().all()) for saved in [newest(run)] for t in [*saved.model.values(), *saved.optimizer.values()]
    )


def test_two_signals_among_refused_updates_leave_the_sound_checkpoint(
    stopped_at_10: Any, train_run: TrainRun, run: RunDir, injector: Any, at_rows: AtRows, at_step: Any, send: Any
) -> None:
    """Each saves doubtful weights; the run still goes back to the step before them."""
    recipe = stopped_at_10()
    injector.bad.extend(at_rows("NaN in the loss", 112, 120, 128))
    for step in (15, 16):
        with pytest.raises(Interrupted):
            train_run(recipe, tell=at_step(step, send(signal.SIGTERM)))
    assert checkpoint.steps(run.checkpoints) == [16, 15, 10]
    progress, _ = train_run(recipe)
    assert [(row.step, row.from_step) for row in rows(run, Rollback)] == [(10, 17)]
    assert progress.step == 20


def test_a_disk_that_refuses_what_going_back_removes_does_not_end_the_run(
    stopped_at_10: Any, train_run: TrainRun, run: RunDir, injector: Any, at_rows: AtRows, at_step: Any, send: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The doubtful checkpoint of a later step stays where it is; the new one is on another branch, and a resume takes it."""
    recipe = stopped_at_10()
    injector.bad.extend(at_rows("NaN in the loss", 112, 120, 128))
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(16, send(signal.SIGTERM)))
    replace = os.replace

    def refusing(source: Any, *rest: Any) -> None:
        if os.fspath(source).endswith("step-00000016"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, *rest)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(os, "replace", refusing)
        train_run(recipe, tell=at_step(12, send(signal.SIGTERM)))
    assert any("step-00000016 cannot be removed" in note.message for note in rows(run, Note))
    assert newest(run).state["progress"]["step"] == 12
    progress, _ = train_run(recipe)
    assert progress.step == 20
    assert len(rows(run, Rollback)) == 1
