"""The clock of a run: all of the budget and no more, and what a kill or a signal threw away stays charged."""

import shutil
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gpuday.core.clock import LOST
from gpuday.core.errors import Interrupted
from gpuday.core.journal import Checkpoint, Note, Step
from gpuday.core.rundir import RunDir, read_json, write_json
from gpuday.recipe import Recipe
from gpuday.train import signals
from trained_run import newest, rows

TrainRun = Callable[..., Any]
MakeRecipe = Callable[..., Recipe]
AtStep = Callable[[int, Callable[[], None]], Callable[..., None]]
Send = Callable[[signal.Signals], Callable[[], None]]


class Ticking:
    """A time that moves on by a fixed amount whenever the training thread looks at it: the heartbeat looks in real time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.tick = 500.0, seconds
        self.thread = threading.current_thread()

    def __call__(self) -> float:
        if threading.current_thread() is self.thread:
            self.seconds += self.tick
        return self.seconds


def test_a_wall_clock_run_ends_with_its_budget(train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir) -> None:
    """Under a time that moves on by itself: all of the budget and no more, every second on a row, the rate down to 0."""
    recipe = make_recipe("60s", train__save_every_seconds=10.0)
    progress, clock = train_run(recipe, now=Ticking(0.05))
    steps = rows(run, Step)
    # Within the second that is promised: the final look takes ticks here, and is estimated in real seconds.
    assert 59 < clock.used_seconds() < 61
    assert sum(clock.ledger().values()) == clock.used_seconds()
    assert {"build", "validate", "save", "step"} <= clock.ledger().keys()
    assert progress.step == len(steps) > 20
    assert steps[-1].multiplier < 0.06
    assert max(s.multiplier for s in steps) > 0.9
    assert [s.fraction for s in steps] == sorted(s.fraction for s in steps)
    assert 5 <= len(rows(run, Checkpoint)) <= 8
    assert [s.first_row for s in steps[1:]] == [s.first_row + s.rows for s in steps[:-1]]


def test_a_budget_that_the_start_uses_up_still_ends_with_weights(train_run: TrainRun, make_recipe: MakeRecipe) -> None:
    """No step was made, and the run is finished all the same: before and after are one loss."""
    progress, _ = train_run(make_recipe("1s"), now=Ticking(0.5))
    assert progress.step == 0
    assert progress.final["rows"] >= progress.before["rows"]


def test_time_that_a_kill_destroyed_stays_charged(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir, at_step: AtStep, send: Send
) -> None:
    """A heartbeat 20 s beyond the checkpoint's clock: those 20 s are lost, and the run has that much less to train."""
    recipe = make_recipe("60s")
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(3, send(signal.SIGTERM)), now=Ticking(0.05))
    used = sum(newest(run).state["clock"]["ledger"].values())
    write_json(run.heartbeat, {"used_seconds": used + 20.0, "stopped": False})
    progress, clock = train_run(recipe, now=Ticking(0.05))
    assert clock.ledger()[LOST] == pytest.approx(20.0)
    assert 57 < clock.used_seconds() < 61
    whole, _ = train_run(recipe, at=RunDir(run.root.with_name("whole")), now=Ticking(0.05))
    assert 0.4 < progress.step / whole.step < 0.85


def test_the_save_of_an_interrupted_run_is_not_called_lost(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir, at_step: AtStep, send: Send
) -> None:
    """What its last heartbeat has over its checkpoint's clock was the save itself: nothing was done twice."""
    recipe = make_recipe("60s")
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(3, send(signal.SIGTERM)), now=Ticking(0.05))
    charged = read_json(run.heartbeat)["used_seconds"]
    _, clock = train_run(recipe, now=Ticking(0.05))
    assert LOST not in clock.ledger()
    assert clock.used_seconds() > charged


def test_work_that_a_second_signal_threw_away_is_called_lost(
    train_run: TrainRun,
    make_recipe: MakeRecipe,
    run: RunDir,
    at_step: AtStep,
    send: Send,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C twice at step 9 leaves without a save: what was trained since the checkpoint is not time of a save."""
    monkeypatch.setattr(signals, "SAME", -1.0)  # two at once are two wishes here

    def twice() -> None:
        send(signal.SIGINT)()
        send(signal.SIGINT)()

    recipe = make_recipe("60s")
    with pytest.raises(KeyboardInterrupt):
        train_run(recipe, tell=at_step(9, twice), now=Ticking(0.05))
    charged = read_json(run.heartbeat)["used_seconds"]
    used = sum(newest(run).state["clock"]["ledger"].values())
    assert newest(run).state["progress"]["step"] == 0 and charged > used + 0.5
    _, clock = train_run(recipe, now=Ticking(0.05))
    assert clock.ledger()[LOST] == pytest.approx(charged - used, abs=0.1)


def test_a_heartbeat_behind_the_checkpoint_costs_nothing(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir, at_step: AtStep, send: Send
) -> None:
    """The larger of the two counts; a clock is never set back."""
    recipe = make_recipe("60s")
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(3, send(signal.SIGTERM)), now=Ticking(0.05))
    used = sum(newest(run).state["clock"]["ledger"].values())
    write_json(run.heartbeat, {"used_seconds": 0.5, "stopped": False})
    _, clock = train_run(recipe, now=Ticking(0.05))
    assert clock.ledger().get(LOST, 0.0) == 0
    assert clock.used_seconds() > used


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"used_seconds": null}', b'{"used": 3}', b"\x00" * 20])
def test_a_damaged_heartbeat_is_told_and_the_checkpoints_clock_taken(
    train_run: TrainRun, run: RunDir, content: bytes, at_step: AtStep, send: Send
) -> None:
    """It is not synced, so that a power cut may leave anything in it."""
    with pytest.raises(Interrupted):
        train_run(tell=at_step(3, send(signal.SIGTERM)))
    used = sum(newest(run).state["clock"]["ledger"].values())
    run.heartbeat.write_bytes(content)
    progress, clock = train_run()
    assert progress.step == 6
    assert clock.used_seconds() > used and clock.ledger().get(LOST, 0.0) == 0
    assert any("heartbeat" in note.message for note in rows(run, Note))


def test_time_is_charged_although_no_checkpoint_was_left(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir, at_step: AtStep, send: Send
) -> None:
    """Ended before its first checkpoint, the run begins anew, and its clock does not."""
    recipe = make_recipe("60s")
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(3, send(signal.SIGTERM)), now=Ticking(0.05))
    charged = read_json(run.heartbeat)["used_seconds"]
    shutil.rmtree(run.checkpoints)
    run.journal.unlink()  # else it says that there was one, and the run is refused
    _, clock = train_run(recipe, now=Ticking(0.05))
    assert clock.ledger()[LOST] == pytest.approx(charged)
    assert 57 < clock.used_seconds() < 61
