"""The loop: within the budget, repeatable to the bit, and whatever stops it costs no more than it must."""

import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpuday.core.clock import LOST
from gpuday.core.errors import GpudayError, Interrupted
from gpuday.core.journal import Note, Start, Step, Validation, read
from gpuday.core.rundir import RunDir
from gpuday.objectives import _predicting
from gpuday.recipe import Recipe
from trained_run import newest, rows

TrainRun = Callable[..., Any]
MakeRecipe = Callable[..., Recipe]
AtStep = Callable[[int, Callable[[], None]], Callable[..., None]]
Send = Callable[[signal.Signals], Callable[[], None]]


class Killed(BaseException):
    """Stands for kill -9, as far as one process can play it."""


def die() -> None:
    raise Killed


def outcome(run: RunDir) -> dict[str, Any]:
    """All that must repeat: the bytes of weights and optimizer, the final loss, how far it came."""
    saved = newest(run)
    progress = {k: v for k, v in saved.state["progress"].items() if k not in ("before", "final", "look_seconds")}
    looks = {k: saved.state["progress"][k]["nats_per_token"] for k in ("before", "final")}
    files = {name: (saved.folder / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")}
    return {**progress, **looks, **files}


def test_a_run_makes_the_steps_of_its_budget(train_run: TrainRun, run: RunDir) -> None:
    """Six steps of eight rows of 32 tokens, each journalled once, positions without gap or overlap."""
    progress, _ = train_run()
    steps = rows(run, Step)
    assert (progress.step, progress.position, progress.tokens) == (6, 48, 6 * 8 * 32)
    assert [s.step for s in steps] == [1, 2, 3, 4, 5, 6]
    assert [s.first_row for s in steps] == [0, 8, 16, 24, 32, 40]
    assert [s.fraction for s in steps] == [i / 6 for i in range(6)]
    assert [s.tokens for s in steps] == [256 * i for i in range(1, 7)]
    assert steps[-1].flops == progress.flops > 0
    assert all(math.isfinite(s.loss) and s.gradient_norm > 0 and not s.skipped for s in steps)
    assert [(v.step, v.final) for v in rows(run, Validation)][-1] == (6, True)


@pytest.mark.parametrize(("budget", "steps"), [("1000tokens", 4), ("1024tokens", 4), ("1.4e8flop", 3), ("1step", 1)])
def test_other_budgets_end_with_the_step_that_reaches_them(
    train_run: TrainRun, make_recipe: MakeRecipe, budget: str, steps: int
) -> None:
    """256 tokens a step; FLOPs from the journalled sums of such a run: 6.0e7 for the causal step, and then 4.7e7 and less."""
    progress, clock = train_run(make_recipe(budget))
    assert progress.step == steps
    assert clock.fraction() == 1


def test_two_runs_of_one_recipe_are_equal_to_the_bit(train_run: TrainRun, tmp_path: Path, run: RunDir) -> None:
    """Weights, optimizer and losses; another seed gives others."""
    other = RunDir(tmp_path / "other")
    train_run()
    train_run(at=other)
    assert outcome(run) == outcome(other)


def test_another_seed_is_another_run(train_run: TrainRun, make_recipe: MakeRecipe, tmp_path: Path, run: RunDir) -> None:
    """The seed reaches the weights."""
    other = RunDir(tmp_path / "other")
    train_run()
    train_run(make_recipe(seed=1), at=other)
    assert outcome(run)["model.safetensors"] != outcome(other)["model.safetensors"]


STYLES = {
    "modern": {},
    "dropout, adamw, clipping": {
        "train__dropout": True,
        "model__dropout": 0.1,
        "train__clip": 0.5,
        "optimizer": {"part": "adamw"},
    },
    "all on a schedule": {
        "train__dropout": True,
        "model__dropout": 0.1,
        "dropout": {"part": "ramp", "start": 1.0, "end": 0.0},
        "decay": {"part": "ramp", "start": 0.0, "end": 2.0},
        "length": {"part": "stages", "stages": [[0.4, 0.5], [1.0, 1.0]]},
        "batch__least_tokens": 64,
        "batch__noise": 1.0,
        "batch__noise_every": 2,
    },
}


@pytest.mark.parametrize("changes", STYLES.values(), ids=STYLES.keys())
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_run_that_was_interrupted_and_resumed_is_equal_to_the_bit(
    train_run: TrainRun,
    make_recipe: MakeRecipe,
    tmp_path: Path,
    run: RunDir,
    number: signal.Signals,
    changes: dict[str, Any],
    at_step: AtStep,
    send: Send,
) -> None:
    """A signal at step 3 saves and leaves with 75; the same call goes on and ends where the other run ended."""
    recipe, whole = make_recipe(**changes), RunDir(tmp_path / "whole")
    train_run(recipe, at=whole)
    with pytest.raises(Interrupted, match=f"{number.name}: stopped at step 3") as caught:
        train_run(recipe, tell=at_step(3, send(number)))
    assert caught.value.exit_code == 75
    assert "same command" in caught.value.fix
    assert newest(run).state["progress"]["step"] == 3
    train_run(recipe)
    assert outcome(run) == outcome(whole)
    assert [s.step for s in rows(run, Step)] == [1, 2, 3, 4, 5, 6]
    assert [s.loss for s in rows(run, Step)] == [s.loss for s in rows(whole, Step)]
    assert [s.step for s in rows(run, Start)] == [0, 3]
    assert any(f"stopped by {number.name}" in note.message for note in rows(run, Note))


def on(wanted: str, act: Callable[[], None], **with_values: Any) -> Callable[..., None]:
    """A screen that acts at an event with the given values."""

    def tell(event: str, /, **values: Any) -> None:
        if event == wanted and with_values.items() <= values.items():
            act()

    return tell


def test_a_signal_before_the_first_step_is_obeyed(train_run: TrainRun, tmp_path: Path, run: RunDir, send: Send) -> None:
    """It may come while the model is built: nothing is trained, and the resumed run is the whole one."""
    whole = RunDir(tmp_path / "whole")
    train_run(at=whole)
    with pytest.raises(Interrupted, match="stopped at step 0"):
        train_run(tell=on("start", send(signal.SIGTERM)))
    train_run()
    assert outcome(run) == outcome(whole)


def test_a_signal_during_the_final_look_loses_nothing(train_run: TrainRun, run: RunDir, send: Send) -> None:
    """The end is so near that the run is finished; the exit code still tells that somebody wanted it to stop."""
    with pytest.raises(Interrupted):
        train_run(tell=on("validation", send(signal.SIGTERM), final=True))
    journal = run.journal.read_bytes()
    progress, _ = train_run()
    assert progress.final is not None
    assert run.journal.read_bytes() == journal


@pytest.mark.parametrize("step", [1, 4, 6])
def test_a_run_that_was_killed_and_resumed_is_equal_to_the_bit(
    train_run: TrainRun, make_recipe: MakeRecipe, tmp_path: Path, run: RunDir, step: int, at_step: AtStep
) -> None:
    """Nothing saved at the end: it goes back to the last checkpoint and makes those steps again, alike."""
    recipe, whole = make_recipe(train__save_every_seconds=1e-3), RunDir(tmp_path / "whole")
    train_run(recipe, at=whole)
    with pytest.raises(Killed):
        train_run(recipe, tell=at_step(step, die))
    train_run(recipe)
    assert outcome(run) == outcome(whole)
    assert [s.step for s in rows(run, Step)] == [1, 2, 3, 4, 5, 6]


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
    train_run: TrainRun, tmp_path: Path, run: RunDir, at_step: AtStep, send: Send
) -> None:
    """It ends as if nothing had happened, and says what happened."""
    whole = RunDir(tmp_path / "whole")
    train_run(at=whole)
    for step in (2, 4):
        with pytest.raises(Interrupted):
            train_run(tell=at_step(step, send(signal.SIGTERM)))
    path = run.checkpoints / "step-00000004" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    train_run()
    assert outcome(run) == outcome(whole)
    assert any("step-00000004 is damaged" in note.message for note in rows(run, Note))
    assert [s.step for s in rows(run, Start)] == [0, 2, 2]


def test_a_finished_run_is_not_trained_again(train_run: TrainRun, run: RunDir) -> None:
    """The same answer, no new rows, no new checkpoint, and its clock says what it said."""
    first, clock = train_run()
    journal, saved = run.journal.read_bytes(), newest(run)
    for _ in range(2):
        again, later = train_run()
        assert again == first
        assert later.used_seconds() == pytest.approx(clock.used_seconds(), abs=1e-3)
        assert LOST not in later.ledger()
    assert run.journal.read_bytes() == journal
    assert newest(run).state == saved.state


def nonfinite(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool], value: float) -> None:
    """Losses of some micro-batches become `value`; counted from 0."""
    real, count = _predicting.cross_entropy, 0

    def loss(*args: Any, **options: Any) -> torch.Tensor:
        nonlocal count
        count += 1
        return real(*args, **options) * (value if bad(count - 1) else 1.0)

    monkeypatch.setattr(_predicting, "cross_entropy", loss)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_three_updates_in_a_row_that_are_not_finite_again_after_going_back_end_the_run(
    train_run: TrainRun, run: RunDir, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """With the fix in the message; the weights that were saved are finite, and the journal tells the story."""
    nonfinite(monkeypatch, lambda count: count >= 4, value)  # two micro-batches a step: from step 3 on
    with pytest.raises(GpudayError, match=r"diverged at step 3, once more since it went back to step 0") as caught:
        train_run()
    assert "learning rate" in caught.value.fix
    made = [row for _, row in read(run.journal) if isinstance(row, Step)]
    assert [(s.step, s.skipped) for s in made] == [(1, False), (2, False), *((n, True) for n in (3, 4, 5, 1, 2, 3))]
    assert [s.first_row for s in made] == [0, 8, 16, 24, 32, 40, 48, 56]
    assert len([n for n in rows(run, Note) if n.message == "the update was not made: loss is not finite"]) == 6
    assert all(torch.isfinite(t).all() for t in newest(run).model.values())


def test_one_update_that_is_not_finite_is_left_out(
    train_run: TrainRun, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on; two apart from each other are not three in a row."""
    nonfinite(monkeypatch, lambda count: count in (2, 3, 7), float("nan"))
    progress, _ = train_run()
    assert [s.skipped for s in rows(run, Step)] == [False, True, False, True, False, False]
    assert progress.step == 6 and progress.skipped == 0
    assert math.isfinite(progress.final["nats_per_token"])


def test_training_on_text_with_structure_lowers_the_loss(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir
) -> None:
    """Sixty steps: from about log(512) nats before, as a guess costs, to clearly below."""
    progress, _ = train_run(make_recipe("60steps"))
    before, final = progress.before["nats_per_token"], progress.final["nats_per_token"]
    assert abs(before - math.log(512)) < 0.15
    assert final < before - 1.0
    assert final < min(v.nats_per_token for v in rows(run, Validation) if v.step < 30)


def test_each_attempt_has_its_number(train_run: TrainRun, run: RunDir, at_step: AtStep, send: Send) -> None:
    """Rows say which process wrote them."""
    for step in (2, 4):
        with pytest.raises(Interrupted):
            train_run(tell=at_step(step, send(signal.SIGTERM)))
    train_run()
    seen = [(attempt, row.step) for attempt, row in read(run.journal) if isinstance(row, Step)]
    assert seen == [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5), (3, 6)]


def test_the_handlers_of_before_are_back_after_a_run(train_run: TrainRun, at_step: AtStep, send: Send) -> None:
    """Whoever calls `train` keeps his Ctrl-C."""
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with pytest.raises(Interrupted):
        train_run(tell=at_step(1, send(signal.SIGINT)))
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before
