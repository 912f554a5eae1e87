"""`gpuday evaluate`: checked before, added to after, for a run and for any folder of an encoder."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuday.cli.evaluate import check_tasks
from gpuday.cli.flags import TaskFlags
from gpuday.core.errors import DataError, GpudayError, UsageError
from gpuday.core.rundir import read_json

Call = Callable[..., Any]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A task of one's own: sixty reviews with stars."""
    path = tmp_path / "reviews.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "stars"])
        writer.writerows([f"{('poor', 'good')[i % 2]}, number {i}, said a fox", 1 + i % 2] for i in range(60))
    return path


@pytest.fixture
def task_data(tmp_path: Path) -> Path:
    """CoLA with twenty rows, and its test rows."""
    folder = tmp_path / "tasks" / "CoLA"
    folder.mkdir(parents=True)
    for part in ("train", "dev", "test"):
        rows: list[dict[str, Any]] = [{"text_a": f"fox {i}", "label": i % 2, "idx": i} for i in range(20)]
        rows = [{k: v for k, v in row.items() if k != "label"} for row in rows] if part == "test" else rows
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder.parent


def test_scores_are_added_for_a_run_and_for_its_folder(
    call: Call, tmp_path: Path, reviews: Path, task_data: Path
) -> None:
    """One's own task, whose model is kept; then another suite, beside it; then the exported folder, which stands in a
    table like any published encoder."""
    run = tmp_path / "runs" / "mine"
    assert call("train", "tiny.toml", "--out", "runs/mine").code == 0
    own = (
        "--task",
        str(reviews),
        "--text",
        "review",
        "--label",
        "stars",
        "--task-seeds",
        "1",
        "--protocol",
        "P1-small",
    )
    called = call("evaluate", "runs/mine", *own)
    assert (called.code, called.err) == (0, "")
    assert {"task", "kept", "score"} <= set(called.kinds())
    (name,) = read_json(run / "summary.json")["scores"]
    assert name.startswith("own-P1-small")
    kept = run / "finetuned" / name / "reviews-stars" / "0"
    assert (kept / "predictions.jsonl").is_file() and (kept / "model.safetensors").is_file()
    assert [e["reused"] for e in call("evaluate", "runs/mine", *own).events if e.get("event") == "score"] == [True]

    glue = ("--tasks", "cola", "--task-data", str(task_data), "--task-seeds", "2", "--untrained")
    called = call("evaluate", "runs/mine", *glue, "--train-fraction", "1,0.8")
    assert (called.code, called.err) == (0, "")
    summary = read_json(run / "summary.json")
    assert list(summary["scores"]) == [name, "glue-P1"] and list(summary["untrained"]) == ["glue-P1"]
    assert list(summary["scores"]["glue-P1"]["curves"]) == ["CoLA"]
    (row,) = (e for e in called.events if e.get("task") == "CoLA" and "untrained" in e)
    assert (row["n"], row["untrained"]) == (2, summary["untrained"]["glue-P1"]["tasks"]["CoLA"]["median"])

    called = call("evaluate", "runs/mine", *glue[:4], "--task-seeds", "1", "--pooling", "mean")
    summary = read_json(run / "summary.json")
    assert list(summary["scores"]) == [name, "glue-P1", "glue-P1-mean"]
    poolings = [row["pooling"] for section in summary["scores"].values() for row in section["tasks"].values()]
    assert poolings == ["first", "first", "mean"]
    assert [e["pooling"] for e in called.events if e.get("task") == "CoLA" and "median" in e] == ["mean"]

    assert call("export", "runs/mine").code == 0
    called = call("evaluate", "runs/mine/model", *glue, "--out", "scores")
    assert (called.code, called.err) == (0, "")
    found = read_json(tmp_path / "scores" / "summary.json")
    assert found["subject"] == {**found["subject"], "name": "model", "kind": "huggingface"}
    assert found["scores"]["glue-P1"]["tasks"]["CoLA"]["n"] == 2
    assert (tmp_path / "scores" / "scores" / "glue" / "CoLA" / "1.json").is_file()
    assert sum(e.get("event") == "notice" and "rows are cut to" in e["message"] for e in called.events) == 1

    config = run / "model" / "config.json"
    config.write_text(json.dumps({**read_json(config), "layer_norm_eps": 1e-3, "norm_eps": 1e-3}))
    called = call("evaluate", "runs/mine/model", *glue, "--out", "scores")
    assert called.code == 2 and "scores of another model, model" in called.err
    assert read_json(tmp_path / "scores" / "summary.json")["subject"] == found["subject"]


@pytest.mark.parametrize(
    ("flags", "kind", "told"),
    [
        ({"text": "a"}, UsageError, "--text without --task"),
        ({"dev": Path("a.csv")}, UsageError, "--dev without --task"),
        ({"task_seeds": 0}, UsageError, "0 task seeds"),
        ({"task_rows": 3}, UsageError, "3 task rows"),
        ({"train_fraction": "2"}, UsageError, "no shares of the train rows"),
        ({"pairs": Path("none")}, DataError, "none is not there"),
        ({"perplexity": Path("none.txt")}, DataError, "none.txt is not there"),
        ({"tasks": "cola", "train_fraction": "0.5"}, DataError, "0.5 of CoLA's train rows are 10"),
        ({"tasks": "cola", "submission": Path("glue.zip")}, UsageError, "20 test rows of CoLA, 1,063"),
        ({"tasks": "cola", "protocol": "P2", "train_fraction": "0.9"}, UsageError, "P2 chooses a setting"),
        ({"task_data": Path()}, UsageError, "--task-data without a task that is read from it"),
        ({"tasks": "cola", "submission_fill": True}, UsageError, "--submission-fill without --submission"),
        ({"keep": True}, UsageError, "--keep without a task"),
        ({"train_fraction": "0.5"}, UsageError, "--train-fraction without a task"),
        ({"untrained": True}, UsageError, "--untrained without a task"),
        ({"pooling": "mean"}, UsageError, "--pooling without a task of whole rows"),
        ({"pll": "within_word_l2r"}, UsageError, "--pll without --pairs"),
    ],
)
def test_a_fault_is_found_before_anything_is_spent(
    task_data: Path, flags: dict[str, Any], kind: type[GpudayError], told: str
) -> None:
    """In the flags and in the files, before the run is opened."""
    with pytest.raises(kind, match=told):
        check_tasks(TaskFlags(**{"tasks": "none", **({"task_data": task_data} if "tasks" in flags else {}), **flags}))


def test_a_submission_that_is_a_folder_is_refused(task_data: Path, tmp_path: Path) -> None:
    """Before hours are spent on answers that could not be written."""
    rows = [{"text_a": f"fox {i}", "idx": i} for i in range(1063)]
    (task_data / "CoLA" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = TaskFlags(tasks="cola", task_data=task_data, submission=tmp_path, submission_fill=True)
    with pytest.raises(UsageError, match="is a folder"):
        check_tasks(flags)
    assert check_tasks(replace(flags, submission=tmp_path / "glue.zip")).data[0].test


def test_rows_are_checked_ahead_of_a_training(task_data: Path) -> None:
    """A train set of one class is told before the budget is spent, not after."""
    rows = [{"text_a": f"fox {i}", "label": 1} for i in range(20)]
    (task_data / "CoLA" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="all rows are of one class"):
        check_tasks(TaskFlags(tasks="cola", task_data=task_data), ahead=True)


def test_what_is_missing_for_a_submission_is_listed(task_data: Path) -> None:
    """Every file of the zip that could not be filled."""
    with pytest.raises(UsageError) as refused:
        check_tasks(TaskFlags(tasks="cola", task_data=task_data, submission=Path("glue.zip")))
    assert refused.value.what.count("\n") == 11 and "AX: no test rows of AX" in refused.value.what


def test_ahead_of_a_training_only_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task that this environment's own text makes needs none, and is not made yet."""
    monkeypatch.setattr("gpuday.evaluate.tasks.pydocs.load", lambda: pytest.fail("made"))
    assert check_tasks(TaskFlags(), ahead=True).data == ()


def test_a_run_keeps_its_scores_to_itself(call: Call) -> None:
    """--out is for folders that are no run."""
    call("prepare", "tiny.toml", "--out", "runs/mine")
    called = call("evaluate", "runs/mine", "--tasks", "none", "--out", "elsewhere")
    assert called.code == 2 and "--out beside a run" in called.err
