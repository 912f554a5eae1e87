"""Reading a run directory: whole, in progress, torn, damaged."""

import fcntl
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuday.core.errors import DataError
from gpuday.report.load import POINTS, RunRecord, load_run


def test_a_finished_run_is_read_whole(run: Path) -> None:
    """Recipe, summary, environment, both attempts, the steps that survived, notes and samples."""
    record = load_run(run)
    assert record.name == "modern-nano-10m-5be1a9"
    assert record.state == "finished"
    assert record.recipe["preset"] == "modern"
    assert record.environments[-1]["python"] == "3.11.7"
    assert [s.step for s in record.steps] == list(range(1, 301))
    assert [(attempt, start.step) for attempt, start in record.attempts] == [(1, 0), (2, 194)]
    assert (record.steps_kept, record.steps_made) == (300, 306)
    assert record.validations[-1].final
    assert len(record.notes) == 1
    assert len(record.samples) == 3


def test_a_run_that_has_only_its_recipe_can_be_read(tmp_path: Path) -> None:
    """Every other file is optional."""
    (tmp_path / "recipe.json").write_text('{"preset": "modern"}')
    record = load_run(tmp_path)
    assert record.state == "not started"
    assert (record.steps, record.attempts, record.environments, record.used_seconds) == ((), (), (), None)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """With the sentence that says what to give instead."""
    with pytest.raises(DataError, match="not a run directory"):
        load_run(tmp_path)


@pytest.mark.parametrize("cut", [1, 40, 100])
def test_a_torn_last_line_is_passed_over(run: Path, cut: int) -> None:
    """A kill in the middle of a write costs that line only."""
    journal = run / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    assert load_run(run).steps_kept == 300


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("recipe.json", "{"),
        ("recipe.json", "[]"),
        ("summary.json", "\x00"),
        ("summary.json", '{"clock": 5}'),
        ("summary.json", '{"samples": ["x"]}'),
        ("summary.json", '{"scores": [1]}'),
        ("environment.json", "3"),
        ("environment.json", '{"attempts": {"a": 1}}'),
        ("summary.json", "[" * 100_000),
    ],
)
def test_a_damaged_file_is_named(run: Path, name: str, content: str) -> None:
    """One clear error, never a traceback from deep inside."""
    (run / name).write_text(content)
    with pytest.raises(DataError, match=name):
        load_run(run)


@pytest.mark.parametrize(
    "line",
    [
        "3",
        '{"kind": "note", "attempt": 1, "weather": "rain"}',
        '{"kind": "note", "attempt": 1, "step": 1, "message": 7}',
        '{"kind": "note", "attempt": 1, "step": "x", "message": "m"}',
        '{"kind": "validation", "attempt": 1, "step": "x", "seconds": 1, "tokens": 1, "flops": 1}',
        '{"kind": "step", "att',
    ],
)
def test_a_damaged_line_costs_itself_and_is_told(run: Path, line: str) -> None:
    """One bad line keeps nobody from the report of a run, and the reader learns that the record has a gap."""
    before = load_run(run)
    with open(run / "journal.jsonl", "a") as journal:
        journal.write(line + "\n")
    record = load_run(run)
    assert (record.steps, record.validations, record.attempts) == (before.steps, before.validations, before.attempts)
    assert [note.message for note in record.notes if note not in before.notes] == [
        "unreadable lines left out of journal.jsonl: 1 (torn by a kill, or damaged)"
    ]


def test_a_diverged_step_is_a_gap(new_run: Callable[..., Path]) -> None:
    """Null in the journal is NaN in the record, and the smooth curve goes on."""
    run = new_run(steps=20)
    journal = run / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "step" and line["step"] == 5:
            line["loss"] = None
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = load_run(run)
    assert math.isnan(record.steps[4].loss)
    assert all(math.isfinite(v) for v in record.smoothed)


def test_a_run_without_its_final_look_was_interrupted_unless_a_process_holds_it(new_run: Callable[..., Path]) -> None:
    """The lock tells the two apart, and asking leaves it as it was."""
    run = new_run(final=False)
    (run / ".lock").touch()
    assert load_run(run).state == "interrupted"
    with open(run / ".lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert load_run(run).state == "running"
    with open(run / ".lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_seconds_used_come_from_the_best_witness(new_run: Callable[..., Path]) -> None:
    """The summary, else the heartbeat, else the last step."""
    run = new_run(summary={"clock": None})
    assert load_run(run).used_seconds == load_run(run).steps[-1].seconds
    (run / "heartbeat.json").write_text('{"used_seconds": 612.5}')
    assert load_run(run).used_seconds == 612.5
    assert load_run(new_run("other")).used_seconds == 599.25


def test_score_files_are_found_by_suite_task_and_seed(run: Path) -> None:
    """Also before the summary knows of them."""
    for seed in (0, 1):
        path = run / "scores" / "glue" / "rte" / f"{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"metric": "accuracy", "value": 0.6}')
    assert [(s.suite, s.task, s.seed) for s in load_run(run).scores] == [("glue", "rte", "0"), ("glue", "rte", "1")]


def test_a_long_run_is_thinned_to_what_a_screen_can_show(new_run: Callable[..., Path]) -> None:
    """At most 2,000 points, first and last among them, in order."""
    record = load_run(new_run(steps=5000))
    numbers = [s.step for s in record.steps]
    assert len(numbers) == len(record.smoothed) == POINTS
    assert (numbers[0], numbers[-1]) == (1, 5000)
    assert numbers == sorted(set(numbers))
    assert record.steps_kept == 5000


def test_an_update_that_was_left_out_does_not_bend_the_smooth_curve(run: Path) -> None:
    """Its point stays where it is, far above; the mean around it is as if it had no loss."""

    def with_third(**changes: object) -> RunRecord:
        lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
        third = next(line for line in lines if line["kind"] == "step" and line["step"] == 3)
        third.update(changes)
        (run / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return load_run(run)

    absent = with_third(loss=None).smoothed
    spiked = with_third(loss=1e4, skipped=True, reason="loss is 1,000 times its median")
    assert spiked.smoothed == absent
    assert spiked.steps[2].loss == 1e4
