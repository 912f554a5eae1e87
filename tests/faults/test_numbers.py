"""Bad numbers: no update is made with them, three in a row send the run back, and it goes on past the rows that did it."""

import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import warm
from gpuday.core.errors import GpudayError, Interrupted
from gpuday.core.journal import Note, Rollback, Start, Step, read
from gpuday.core.rundir import RunDir, read_json
from gpuday.objectives.mlm import MaskedLearner
from gpuday.train import checkpoint
from gpuday.train.stepping import compilations
from trained_run import STEADY, newest, rows

ROOT = Path(__file__).resolve().parents[2]
TrainRun = Callable[..., Any]
AtRows = Callable[..., list[Any]]
Stop = Callable[..., None]
KINDS = (
    *("NaN in the loss", "Inf in the loss", "Inf in the gradient", "NaN in one micro-batch"),
    *("NaN in one parameter's gradient", "200 times the gradient", "200 times the loss"),
)
REASONS = (
    *("loss is not finite", "loss is not finite", "gradient norm is not finite", "loss is not finite"),
    *("gradient norm is not finite", "gradient norm is ", "loss is "),
)
STYLES = {
    "adamw": {"optimizer": {"part": "adamw"}},
    "adamw, clipped": {"optimizer": {"part": "adamw"}, "train__clip": 0.5},
    "muon": {},
    "muon, clipped": {"train__clip": 0.5},
}


class Killed(BaseException):
    """Stands for kill -9, as far as one process can play it."""


def made(run: RunDir) -> list[Step]:
    return [row for _, row in read(run.journal) if isinstance(row, Step)]


def final_bytes(run: RunDir) -> list[bytes]:
    return [(newest(run).folder / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


@pytest.mark.parametrize("changes", STYLES.values(), ids=STYLES.keys())
def test_no_bad_number_reaches_weights_or_moments(
    train_run: TrainRun, make_recipe: Callable[..., Any], run: RunDir, injector: Any, numbers: ModuleType,
    changes: dict[str, Any],
) -> None:  # fmt: skip
    """Each kind once, in every other step from the eleventh on: those updates leave every byte alone, all others move
    it, the journal says why, and the run ends where its budget does."""
    bad = [numbers.KINDS[kind](8 * (10 + 2 * i)) for i, kind in enumerate(KINDS)]
    injector.bad.extend(bad)
    progress, _ = train_run(make_recipe("26steps", **STEADY, **changes))
    steps = rows(run, Step)
    wanted = {10 + 2 * i: reason for i, reason in enumerate(REASONS)}
    assert [i for i, step in enumerate(steps) if step.skipped] == list(wanted)
    assert [i for i, (outcome, moved) in enumerate(injector.steps) if not moved] == list(wanted)
    for i, reason in wanted.items():
        assert steps[i].reason.startswith(reason)
    assert all(step.reason == "" for i, step in enumerate(steps) if i not in wanted)
    notes = [note.message for note in rows(run, Note)]
    assert notes == [f"the update was not made: {steps[i].reason}" for i in wanted]
    assert (progress.step, progress.skipped, progress.rolled_back_to) == (26, 0, -1)
    assert math.isfinite(progress.final["nats_per_token"])
    assert all(bool(t.isfinite().all()) for t in newest(run).model.values())


def test_what_is_twenty_times_as_large_as_usual_is_learnt_from(
    train_run: TrainRun, make_recipe: Callable[..., Any], run: RunDir, injector: Any, numbers: ModuleType
) -> None:
    """The guard is for what is broken, and leaves what is only unusual to clipping and the optimizer."""
    changes = (numbers.gradient_times(20.0), numbers.loss_times(20.0))
    injector.bad.extend(numbers.Bad(first_row=80 + 16 * i, change=change) for i, change in enumerate(changes))
    train_run(make_recipe("14steps", **STEADY))
    assert not any(step.skipped for step in rows(run, Step))


def test_before_eight_updates_and_with_the_knob_at_zero_nothing_finite_is_refused(
    train_run: TrainRun, make_recipe: Callable[..., Any], run: RunDir, injector: Any, at_rows: AtRows
) -> None:
    """A run's first losses say nothing yet about what is usual; and a person may turn the guard off."""
    injector.bad.extend(at_rows("200 times the gradient", 56))
    train_run(make_recipe("9steps", **STEADY))
    injector.bad[:] = at_rows("200 times the loss", 80)
    off = RunDir(run.root.with_name("off"))
    train_run(make_recipe("12steps", train__spike=0.0, **STEADY), at=off)
    assert not any(step.skipped for at in (run, off) for step in rows(at, Step))


@pytest.mark.parametrize("many", [1, 2])
def test_fewer_than_three_in_a_row_do_not_send_the_run_back(
    stopped_at_10: Any, train_run: TrainRun, run: RunDir, injector: Any, at_rows: AtRows, many: int
) -> None:
    """They are left out, and the next one that can be made begins the count anew."""
    recipe = stopped_at_10()
    injector.bad.extend(at_rows("NaN in the loss", *(112 + 8 * i for i in range(many))))
    injector.bad.extend(at_rows("200 times the loss", *(136 + 8 * i for i in range(many))))
    progress, _ = train_run(recipe)
    assert sum(step.skipped for step in rows(run, Step)) == 2 * many
    assert not rows(run, Rollback)
    assert progress.position == 160


@pytest.mark.parametrize("kind", ["NaN in the loss", "200 times the gradient"])
@pytest.mark.parametrize("budget", ["20steps", "5120tokens"])
def test_three_in_a_row_send_the_run_back_to_its_checkpoint_and_past_their_rows(
    stopped_at_10: Any, train_run: TrainRun, run: RunDir, injector: Any, at_rows: AtRows, kind: str, budget: str
) -> None:
    """As if the rows since the checkpoint had never been there: the bytes are those of a run whose stream was moved on
    by hand. The budget counts the kept trajectory, the clock every second, and the rows of before are not read again."""
    recipe = stopped_at_10(budget)
    by_hand = RunDir(run.root.with_name("by-hand"))
    stopped_at_10(budget, at=by_hand)
    saved = newest(by_hand)
    saved.state["progress"]["position"] = 136
    checkpoint.save(by_hand.checkpoints, 10, model=saved.model, optimizer=saved.optimizer, state=saved.state)
    train_run(recipe, at=by_hand)
    injector.bad.extend(at_rows(kind, 112, 120, 128))  # steps 15 to 17
    told: list[str] = []
    progress, clock = train_run(
        recipe, tell=lambda event, /, **values: told.append(values["message"]) if event == "note" else None
    )
    assert final_bytes(run) == final_bytes(by_hand)
    assert [step.loss for step in rows(run, Step)] == [step.loss for step in rows(by_hand, Step)]
    (row,) = rows(run, Rollback)
    assert (row.step, row.from_step, row.position) == (10, 17, 136)
    assert row.reason == made(run)[16].reason != ""
    assert any("back from step 17 to the weights of step 10, and on with row 136" in message for message in told)
    assert any("back from step 17" in note.message for note in rows(run, Note))
    assert [step.step for step in rows(run, Step)] == list(range(1, 21))
    assert [step.step for step in made(run)] == [*range(1, 18), *range(11, 21)]
    assert [step.first_row for step in made(run)] == list(range(0, 216, 8))
    assert (progress.step, progress.tokens, progress.position, progress.skipped) == (20, 5120, 216, 0)
    assert clock.counts["steps"] == 20 and clock.counts["tokens"] == 5120 and clock.counts["flops"] == progress.flops
    assert clock.used_seconds() >= sum(step.step_seconds for step in made(run))
    assert clock.ledger()["roll back"] > 0
    assert len(list(run.checkpoints.glob("step-*"))) == 2


def test_three_in_a_row_again_without_coming_further_end_the_run(
    stopped_at_10: Any, train_run: TrainRun, run: RunDir, injector: Any, at_rows: AtRows
) -> None:
    """Six in a row: the second time the weights are at fault and not the rows. The error says what to change, and the
    same command again goes on from the checkpoint, behind those rows."""
    recipe = stopped_at_10()
    injector.bad.extend(at_rows("NaN in the loss", *range(112, 160, 8)))
    with pytest.raises(GpudayError, match="diverged at step 13, once more since it went back to step 10") as caught:
        train_run(recipe)
    assert caught.value.exit_code == 70
    assert caught.value.where == str(run.root)
    assert "optimizer.lr" in caught.value.fix and "train.spike" in caught.value.fix
    assert newest(run).state["progress"]["position"] == 136
    injector.bad.clear()
    progress, _ = train_run(recipe)
    assert (progress.step, progress.position) == (20, 216)


def test_a_run_may_go_back_again_once_it_has_come_further(
    stopped_at_10: Any, train_run: TrainRun, run: RunDir, injector: Any, at_rows: AtRows, at_step: Any, send: Any
) -> None:
    """A newer checkpoint stands between the two."""
    recipe = stopped_at_10()
    injector.bad.extend(at_rows("NaN in the loss", 112, 120, 128, 160, 168, 176))
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(12, send(signal.SIGTERM)))  # before it went back
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(13, lambda: send(signal.SIGTERM)() if len(made(run)) == 18 else None))
    progress, _ = train_run(recipe)
    assert [(row.step, row.from_step) for row in rows(run, Rollback)] == [(12, 17), (13, 18)]
    assert progress.step == 20


@pytest.mark.parametrize("event", ["note", "step"])
def test_a_kill_after_going_back_changes_nothing(
    stopped_at_10: Any, train_run: TrainRun, run: RunDir, injector: Any, at_rows: AtRows, event: str
) -> None:
    """Before the checkpoint that it makes at once, or in the first step behind it: the same final bytes, and only in
    the first case is it done again. A spike is still measured by the steps before the checkpoint."""
    whole = RunDir(run.root.with_name("whole"))
    recipe = stopped_at_10()
    stopped_at_10(at=whole)
    injector.bad.extend([*at_rows("NaN in the loss", 112, 120, 128), *at_rows("200 times the gradient", 152)])
    train_run(recipe, at=whole)

    def die(told: str, /, **values: Any) -> None:
        back = [row for _, row in read(run.journal) if isinstance(row, Rollback)]
        if back and told == event:
            raise Killed

    with pytest.raises(Killed):
        train_run(recipe, tell=die)
    train_run(recipe)
    assert final_bytes(run) == final_bytes(whole)
    assert [step.step for step in rows(run, Step) if step.skipped] == [13]
    assert [step.loss for step in rows(run, Step)] == [step.loss for step in rows(whole, Step)] or event == "note"
    assert len([row for _, row in read(run.journal) if isinstance(row, Rollback)]) == (2 if event == "note" else 1)
    assert [start.step for start in rows(run, Start)] == [0, 10, 10]


def test_a_run_that_is_killed_and_resumed_measures_spikes_by_the_same_steps(
    train_run: TrainRun, make_recipe: Callable[..., Any], run: RunDir, injector: Any, at_rows: AtRows, at_step: Any,
    send: Any,
) -> None:  # fmt: skip
    """The losses that a spike is measured by come back from the checkpoint: stopped one step before it, the run leaves
    the same update out and ends with the same bytes."""
    recipe, whole = make_recipe("16steps", **STEADY), RunDir(run.root.with_name("whole"))
    injector.bad.extend(at_rows("200 times the gradient", 88))
    train_run(recipe, at=whole)
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(11, send(signal.SIGTERM)))
    train_run(recipe)
    assert [step.skipped for step in rows(run, Step)] == [step.skipped for step in rows(whole, Step)]
    assert [step.step for step in rows(run, Step) if step.skipped] == [12]
    assert final_bytes(run) == final_bytes(whole)


def test_doubtful_weights_are_not_kept_and_never_gone_back_to(
    stopped_at_10: Any, train_run: TrainRun, make_recipe: Callable[..., Any], run: RunDir, injector: Any,
    at_rows: AtRows, at_step: Any, send: Any,
) -> None:  # fmt: skip
    """No save that is due while the last update was left out. A signal saves all the same, so that nothing is lost; but
    that checkpoint is not what three in a row go back to, and it is gone afterwards."""
    eager = RunDir(run.root.with_name("eager"))
    injector.bad.extend(at_rows("NaN in the loss", 80, 88))
    train_run(make_recipe("14steps", train__save_every_seconds=0.0, **STEADY), at=eager)
    kept = [row.step for _, row in read(eager.journal) if type(row).__name__ == "Checkpoint"]
    assert not {11, 12} & set(kept)
    injector.bad.clear()
    recipe = stopped_at_10()
    injector.bad.extend(at_rows("NaN in the loss", 112, 120, 128))
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(16, send(signal.SIGTERM)))
    assert newest(run).state["progress"]["skipped"] == 2
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(11, send(signal.SIGTERM)))
    assert [(row.step, row.from_step) for row in rows(run, Rollback)] == [(10, 17)]
    assert newest(run).state["progress"]["step"] == 11
    assert {p.name for p in run.checkpoints.glob("step-*")} == {"step-00000010", "step-00000011"}


def test_weights_that_are_not_finite_are_not_gone_back_to(stopped_at_10: Any, train_run: TrainRun, run: RunDir) -> None:
    """An update of finite numbers may still overflow, and a save be due before anyone notices: the checkpoint before is
    taken."""
    recipe = stopped_at_10()
    saved = newest(run)
    name = next(name for name in saved.model if "final_norm" in name)  # which every step meets
    saved.model[name].view(-1)[0] = float("nan")
    saved.state["progress"]["step"], saved.state["clock"]["counts"]["steps"] = 12, 12.0
    checkpoint.save(run.checkpoints, 12, model=saved.model, optimizer=saved.optimizer, state=saved.state)
    progress, _ = train_run(recipe)
    assert [(row.step, row.from_step) for row in rows(run, Rollback)] == [(10, 15)]
    assert progress.step == 20
    assert all(bool(t.isfinite().all()) for t in newest(run).model.values())


def test_a_run_whose_last_update_overflows_is_not_finished(
    train_run: TrainRun, make_recipe: Callable[..., Any], run: RunDir
) -> None:
    """A rate of 1e38 in the only step: no final weights that are not finite, and an error for a person."""
    recipe = make_recipe("1step", **STEADY, optimizer={"part": "adamw", "lr": 1e38})
    with pytest.raises(GpudayError, match="the final held-out loss is not finite") as caught:
        train_run(recipe)
    assert "optimizer.lr" in caught.value.fix
    assert newest(run).state["progress"]["final"] is None


# Dynamo looks at the gradient of whatever tensor it is handed, and hides the warning from all but `error` filters.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_going_back_compiles_nothing(
    train_run: TrainRun, make_recipe: Callable[..., Any], run: RunDir, injector: Any, at_rows: AtRows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The weights are loaded in place: as many graphs as without, and no step that compiled although none should.
    Graphs are captured as for the compiler and then run as they are, since C++ is slow."""
    compile_really = MaskedLearner.compile
    options = {"dynamic": False, "fullgraph": True, "backend": "eager"}
    monkeypatch.setattr(MaskedLearner, "compile", lambda self, **_: compile_really(self, **options))
    torch.compiler.reset()
    before = compilations()
    injector.bad.extend(at_rows("NaN in the loss", 16, 24, 32))
    recipe = make_recipe("6steps", train__mask_levels=1, **STEADY)
    progress, _ = train_run(recipe, fit={"compiled": True})
    torch.compiler.reset()
    assert [step.step for step in made(run)] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6]
    assert [step.compiled_anew for step in made(run)] == [True, False, True] + [False] * 8  # the first of each kind
    assert progress.compilations == compilations() - before
    assert not any("compiled" in note.message for note in rows(run, Note))


@pytest.mark.parametrize("most_rows", [7, 4, 3, 2, 1])
def test_memory_that_runs_out_leaves_batch_and_losses_as_they_were(
    train_run: TrainRun, make_recipe: Callable[..., Any], run: RunDir, injector: Any, at_rows: AtRows, most_rows: int
) -> None:
    """At five limits, from the sixth step on, in a run with a spike: the same rows in each step, the same update left
    out, and the loss curve within 1e-5 of the one with enough memory."""
    recipe, whole = make_recipe("14steps", **STEADY), RunDir(run.root.with_name("whole"))
    injector.bad.extend(at_rows("200 times the loss", 80))
    train_run(recipe, at=whole, fit={"microbatch": 8})

    def scarce(event: str, /, **values: Any) -> None:
        if event == "step" and values["step"] == 5:
            injector.most_rows = most_rows

    progress, _ = train_run(recipe, fit={"microbatch": 8}, tell=scarce)
    power = 1 << (most_rows.bit_length() - 1)
    assert progress.microbatch == power
    assert [step.microbatch for step in rows(run, Step)] == [8] * 5 + [power] * 9
    assert [(step.first_row, step.rows) for step in rows(run, Step)] == [(8 * i, 8) for i in range(14)]
    assert [step.step for step in rows(run, Step) if step.skipped] == [11]
    assert [step.loss for step in rows(run, Step)] == pytest.approx([s.loss for s in rows(whole, Step)], rel=1e-5)


def test_all_ranks_go_back_together_though_only_one_of_them_met_the_bad_numbers(
    tmp_path: Path, tiny_toml: Callable[..., str]
) -> None:
    """NaN in micro-batches of rank 1 alone, three steps in a row: both leave them out, read the same checkpoint and go
    on with the same rows, and the run is that of one device within rounding. Weights are compared when both went back."""
    (tmp_path / "tiny.toml").write_text(tiny_toml(budget="8steps"))
    runs = [RunDir(tmp_path / "runs" / name) for name in ("one", "two")]
    faults = ROOT / "tests" / "faults"
    path = os.pathsep.join([str(ROOT / "src"), str(faults)])
    environment = {"PYTHONPATH": path, "GPUDAY_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    for run, start, bad_rank in zip(runs, ([sys.executable], warm.TWO_RANKS), ("0", "1"), strict=True):
        done = warm.run(
            [*start, str(faults / "bad_rank.py"), "train", "tiny.toml", "--out", str(run.root)],
            cwd=tmp_path,
            env={**os.environ, **environment, "BAD_ROWS": "16,24,32", "BAD_RANK": bad_rank},
        )
        assert done.returncode == 0, done.stderr
    one, two = runs
    assert rows(one, Rollback) == rows(two, Rollback)
    assert [(row.step, row.from_step, row.position) for row in rows(two, Rollback)] == [(0, 5, 40)]
    assert [(s.step, s.first_row, s.skipped, s.reason) for s in made(two)] == [
        (s.step, s.first_row, s.skipped, s.reason) for s in made(one)
    ]
    for run in runs:
        told = read_json(run.summary)["train"]
        assert (told["steps"], told["tokens"], told["tokens_processed"]) == (8, 8 * 256, 13 * 256)
        assert (told["rollbacks"], told["skipped_updates"]) == (1, 0)
    losses = [[step.loss for step in rows(run, Step)] for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
