"""`gpuday compare`: what it reads, what it refuses, and what it says."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.cli import compare
from gpuday.cli.screen import Screen
from gpuday.evaluate.comparison import compare as between

Call = Callable[..., Any]
TASKS = {"CoLA": [0.1, 0.12, 0.11], "SST-2": [0.8, 0.81, 0.82], "MNLI": [0.5, 0.52, 0.51], "MNLI-mm": [0.6, 0.6, 0.6]}


def row(values: list[float], **changes: Any) -> dict[str, Any]:
    """A task of a section as `gpuday evaluate` writes it."""
    middle = sorted(values)[len(values) // 2]
    known = {"metric": "accuracy", "median": middle, "values": values, "n": len(values), "version": 1, "protocol": "P1",
             "train_rows": 100, "train_rows_available": 100, "dev_rows": 50, "partial": False, "data_hash": "d",
             "chance": 0.0, "reference": 0.9, "in_mean": True}  # fmt: skip
    return {**known, **changes}


def write(folder: Path, tasks: dict[str, dict[str, Any]], *, name: str = "glue-P1", **more: Any) -> str:
    """A folder with the summary of one suite."""
    folder.mkdir(exist_ok=True)
    section = {"protocol": name.partition("-")[2], "tasks": tasks, **more}
    (folder / "summary.json").write_text(json.dumps({"scores": {name: section}}))
    return folder.name


@pytest.fixture
def two(tmp_path: Path, call: Call) -> tuple[str, str]:
    """Two models over the same tasks, the second one better everywhere but on CoLA."""
    old = {task: row(values, in_mean=task != "MNLI-mm") for task, values in TASKS.items()}
    new = {
        task: row([v + (-0.09 if task == "CoLA" else 0.05) for v in values], in_mean=task != "MNLI-mm")
        for task, values in TASKS.items()
    }
    return write(tmp_path / "old", old), write(tmp_path / "new", new)


def test_two_runs_are_compared(call: Call, two: tuple[str, str]) -> None:
    """One line for each suite: the numbers of `compare` over their seeds, MNLI once."""
    (line,) = call("compare", *two).events
    assert (line["event"], line["suite"], line["models"]) == ("compare", "glue-P1", ["old", "new"])
    assert line["tasks"] == ["CoLA", "SST-2", "MNLI"]
    assert line["aggregates"]["old"]["arithmetic"]["value"] == pytest.approx((0.11 + 0.81 + 0.51) / 3)
    seeds = {"old": TASKS, "new": {t: [v + (-0.09 if t == "CoLA" else 0.05) for v in w] for t, w in TASKS.items()}}
    expected = between(seeds, marks=dict.fromkeys(TASKS, (0.0, 0.9)))
    for key in ("improvement", "differences", "orders", "mean_rank", "sentence"):
        assert line[key] == json.loads(json.dumps(expected[key])), key
    assert line["sentence"].startswith("The order depends on the aggregate: new > old by arithmetic")
    assert line["scores"][1] == {"task": "CoLA", "model": "new", "metric": "accuracy", "median": pytest.approx(0.02),
                                 "interval": None, "rows_interval": None, "n": 3, "values": pytest.approx([0.01, 0.03, 0.02])}  # fmt: skip


def test_models_that_read_rows_unlike_are_named(call: Call, tmp_path: Path) -> None:
    """Each its own pooling under one protocol compares, and is told; a row of before there was a choice is of position 0."""
    old = write(tmp_path / "old", {"CoLA": row(TASKS["CoLA"]), "RTE": row([0.5, 0.6, 0.7])})
    for pooling, wanted in (("mean", {"old": "first", "new": "mean"}), ("first", {}), (None, {})):
        rows = {"CoLA": row(TASKS["CoLA"], pooling=pooling), "RTE": row([0.5, 0.6, 0.7], pooling=pooling)}
        (line,) = call("compare", old, write(tmp_path / "new", rows)).events
        assert line["poolings"] == wanted


def test_scores_whose_files_are_gone_are_left_out(call: Call, tmp_path: Path) -> None:
    """Where a folder holds other score files; one that holds none, as a record, is taken at its word."""
    rows = {"CoLA": row(TASKS["CoLA"]), "RTE": row([0.5, 0.6, 0.7])}
    rows = {task: {**values, "seeds": [0, 1, 2]} for task, values in rows.items()}
    new, old = write(tmp_path / "new", rows, suite="glue"), write(tmp_path / "old", rows, suite="glue")
    assert call("compare", old, new).events[0]["tasks"] == ["CoLA", "RTE"]
    folder = tmp_path / "new" / "scores" / "glue" / "RTE"
    folder.mkdir(parents=True)
    for seed in range(3):
        (folder / f"{seed}.json").touch()
    (line,) = call("compare", old, new).events
    assert (line["tasks"], line["left_out"]) == (["RTE"], {"CoLA": "its score files are gone: new"})


def test_mnli_counts_twice_when_asked(call: Call, two: tuple[str, str]) -> None:
    """As the paper did: both dev sets."""
    (line,) = call("compare", *two, "--mnli", "twice").events
    assert line["tasks"] == ["CoLA", "SST-2", "MNLI", "MNLI-mm"]


def test_what_does_not_compare_is_left_out_with_the_reason(call: Call, tmp_path: Path, two: tuple[str, str]) -> None:
    """Other data, another version, other rows, a task that one lacks, one that no mean may count."""
    tasks = {
        "CoLA": row([0.2] * 3),
        "SST-2": row([0.9] * 3, data_hash="other"),
        "MNLI": row([0.6] * 3, version=2),
        "WNLI": row([0.5], in_mean=False),
        "RTE": row([0.5]),
    }
    (line,) = call("compare", write(tmp_path / "odd", tasks), "old").events
    assert line["tasks"] == ["CoLA"]
    assert line["left_out"] == {
        "SST-2": "differs in data_hash (odd: other, old: d)",
        "MNLI": "differs in version (odd: 2, old: 1)",
        "WNLI": "reported, and outside of every mean",
        "RTE": "not scored: old",
        "MNLI-mm": "not scored: odd",
    }


def test_nothing_that_compares_is_refused(call: Call, tmp_path: Path, two: tuple[str, str]) -> None:
    """Two protocols, or the same tasks with other rows in all: exit code 3, and what there is."""
    other = write(tmp_path / "other", {"CoLA": row([0.2])}, name="glue-P2")
    called = call("compare", "old", other)
    assert called.code == 3
    assert "share no suite under one protocol" in called.err and "old: glue-P1; other: glue-P2" in called.err
    short = write(tmp_path / "short", {"CoLA": row([0.2], train_rows=50)})
    called = call("compare", "old", short)
    assert called.code == 3
    assert "no task of glue-P1 compares" in called.err and "train_rows (old: 100, short: 50)" in called.err


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        ([], 2, "compare needs RUNS"),
        (["old"], 2, "1 model to compare"),
        (["old", "old"], 2, "a model is given twice"),
        (["old", "nowhere"], 3, "nowhere is not a folder"),
        (["old", "."], 3, "holds no scores"),
        (["old", "new", "--mnli", "thrice"], 2, "--mnli is 'thrice'"),
    ],
)
def test_what_cannot_be_compared_is_said(
    call: Call, two: tuple[str, str], arguments: list[str], code: int, what: str
) -> None:
    """With the documented exit codes."""
    called = call("compare", *arguments)
    assert called.code == code
    assert what in called.err and "fix: " in called.err


def test_summaries_of_before_there_were_several_suites_are_compared(call: Call, tmp_path: Path) -> None:
    """A flat section goes by its protocol; it has no marks, and so no normalised mean."""
    for name, value in (("a", 0.5), ("b", 0.6)):
        (tmp_path / name).mkdir()
        task = {
            "metric": "accuracy",
            "median": value,
            "values": [value],
            "version": 1,
            "protocol": "P1",
            "data_hash": "d",
        }
        (tmp_path / name / "summary.json").write_text(json.dumps({"scores": {"protocol": "P1", "tasks": {"x": task}}}))
    (line,) = call("compare", "a", "b").events
    assert (line["suite"], line["sentence"]) == ("P1", "Of one task alone: b > a.")
    assert len(line["orders"]) == 4 and "normalised" not in line["orders"]


def test_curves_of_both_are_laid_side_by_side(call: Call, tmp_path: Path) -> None:
    """By share of the rows; a model may lack a share."""

    def curve(*points: tuple[float, int, float]) -> dict[str, Any]:
        return {"CoLA": [{"fraction": f, "rows": r, "median": m, "interval": None} for f, r, m in points]}

    a = write(tmp_path / "a", {"CoLA": row([0.5])}, curves=curve((0.5, 50, 0.4), (1.0, 100, 0.5)))
    b = write(tmp_path / "b", {"CoLA": row([0.6])}, curves=curve((1.0, 100, 0.6)))
    (line,) = call("compare", a, b).events
    assert line["curves"]["CoLA"]["a"][0]["median"] == 0.4
    assert compare._curve_rows(line["curves"]["CoLA"]) == [
        {"share": "0.5", "rows": 50, "a": "0.400", "b": None},
        {"share": "1", "rows": 100, "a": "0.500", "b": "0.600"},
    ]


def test_curves_of_other_rows_are_no_curves_of_one_question(call: Call, tmp_path: Path) -> None:
    """A task that is left out has no curve, and a share that is other rows in one model than in another is not shown."""

    def curve(rows: int) -> list[dict[str, Any]]:
        return [{"fraction": f, "rows": r, "median": 0.4, "interval": None} for f, r in ((0.5, rows), (1.0, 100))]

    for name, rows, data in (("a", 50, "d"), ("b", 51, "e")):
        tasks = {"CoLA": row([0.5]), "RTE": row([0.5], data_hash=data)}
        write(tmp_path / name, tasks, curves={"CoLA": curve(rows), "RTE": curve(50)})
    (line,) = call("compare", "a", "b").events
    assert {m: [p["fraction"] for p in points] for m, points in line["curves"].pop("CoLA").items()} == {"a": [1.0], "b": [1.0]}  # fmt: skip
    assert line["curves"] == {} and list(line["left_out"]) == ["RTE"]


def test_a_suite_that_does_not_compare_does_not_hide_those_that_do(call: Call, tmp_path: Path) -> None:
    """It is left out with the reason, whichever comes first; MNLI cannot count twice in one, and the reason is the true
    one."""
    for name, data in (("a", "d"), ("b", "e")):
        (tmp_path / name).mkdir()
        mnli = {"MNLI": row([0.5]), "MNLI-mm": row([0.5], data_hash=data, in_mean=False)}
        suites = {"own-P1": {"mine": row([0.5], data_hash=data)}, "glue-P1": mnli, "x-P1": {"x": row([0.5])}}
        scores = {suite: {"protocol": "P1", "tasks": tasks} for suite, tasks in suites.items()}
        (tmp_path / name / "summary.json").write_text(json.dumps({"scores": scores}))
    *lines, last = call("compare", "a", "b").events
    assert [line["suite"] for line in lines] == ["glue-P1", "x-P1"]
    assert last["event"] == "left out" and last["reasons"] == {"own-P1": "mine: differs in data_hash (a: d, b: e)"}
    line, last = call("compare", "a", "b", "--mnli", "twice").events
    assert line["suite"] == "x-P1"
    assert last["reasons"]["glue-P1"] == (
        "MNLI cannot count twice, since MNLI-mm does not compare: differs in data_hash (a: d, b: e)"
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        ({"start": "MNLI, 8 rows"}, {"start": "MNLI, 9 rows"}, "differs in start (a: MNLI, 8 rows, b: MNLI, 9 rows)"),
        ({"data_hash": None}, {"data_hash": None}, "not known to be the same: data_hash"),
        ({"version": None}, {}, "not known to be the same: version"),
    ],
)
def test_what_is_not_known_to_be_the_same_is_left_out(
    call: Call, tmp_path: Path, ours: dict[str, Any], theirs: dict[str, Any], reason: str
) -> None:
    """Fine-tuned from another start; without a hash of the rows, or a version of the task, in one model or in both."""
    a = write(tmp_path / "a", {"CoLA": row([0.5]), "RTE": row([0.5], **ours)})
    b = write(tmp_path / "b", {"CoLA": row([0.6]), "RTE": row([0.6], **theirs)})
    (line,) = call("compare", a, b).events
    assert line["left_out"] == {"RTE": reason}


def test_people_see_tables_and_a_sentence(
    call: Call, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Scores, means with what they depend on, probabilities, differences; a line for what was left out."""
    shown: dict[str, list[dict[str, Any]]] = {}
    told: dict[str, Any] = {}
    monkeypatch.setattr(Screen, "table", lambda self, title, rows: shown.update({title: rows}))
    monkeypatch.setattr(Screen, "tell", lambda self, event, **values: told.update({event: values}))
    with Screen(as_json=True) as screen:
        screen.as_json = False
        models = {name: compare._read(tmp_path / name)["glue-P1"] for name in two}
        compare._show("glue-P1", models, "once", screen)
    medians, means, better, apart = shown.values()
    assert [r["task"] for r in medians] == ["CoLA", "SST-2", "MNLI"]
    assert medians[0]["old"] == "0.110"
    geometric = next(r for r in means if r["mean"] == "geometric")
    assert geometric["order changes without"] == "CoLA"
    assert [(r["model"], r["over"]) for r in better] == [("old", "new")]
    assert [r["difference"] for r in apart] == ["+0.090", "-0.050", "-0.050"]
    assert all("(90%" in r["interval"] for r in apart)  # what three seeds beside three can hold
    assert "depends on the aggregate" in told["order"]["message"]


def test_two_models_of_one_name_go_by_their_paths(call: Call, tmp_path: Path) -> None:
    """`a/model` and `b/model`."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "model", {"CoLA": row([0.5])})
    (line,) = call("compare", "a/model", "b/model").events
    assert line["models"] == ["a/model", "b/model"]


def test_no_model_is_loaded() -> None:
    """Nor torch, which would take longer than all the rest."""
    code = "import sys; import gpuday.cli.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_task_of_ones_own_compares(call: Call, tmp_path: Path) -> None:
    """It counts in no suite's mean, and is all that its own suite has."""
    mine = {"reviews-stars": row([0.8, 0.9, 0.9], in_mean=False)}
    theirs = {"reviews-stars": row([0.7, 0.7, 0.8], in_mean=False)}
    write(tmp_path / "mine", mine, name="own-P1", suite="own")
    write(tmp_path / "theirs", theirs, name="own-P1", suite="own")
    (line,) = call("compare", "mine", "theirs").events
    assert line["tasks"] == ["reviews-stars"]
