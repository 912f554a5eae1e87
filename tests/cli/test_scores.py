"""The tables of scores that the screen shows."""

from typing import Any

import pytest

from gpuday.cli.scores import mean_rows, show_scores, task_rows
from gpuday.cli.screen import Screen
from gpuday.evaluate.aggregates import TaskScore, aggregates


def row(median: float, *, interval: dict[str, float] | None = None, **baseline: float) -> dict[str, Any]:
    return {
        "metric": "accuracy",
        "n": 3,
        "median": median,
        "interval": interval,
        "spread": 0.02,
        "baseline": {"majority": 0.5, **baseline},
        "protocol": "P1",
    }


TABLE = {"A": row(0.9, interval={"low": 0.88, "high": 0.91, "confidence": 0.75}), "B": row(0.3, bag_of_words=0.6)}
SECTION: dict[str, Any] = {
    "suite": "glue",
    "protocol": "P1",
    "tasks": TABLE,
    "aggregates": aggregates({name: TaskScore(value=r["median"]) for name, r in TABLE.items()}),
    "mean_of": {"tasks": ["A", "B"]},
    "curves": {"A": [{"fraction": 0.5, "rows": 10, "n": 3, "median": 0.8, "interval": None, "values": []}]},
    "left_out": {"C": "no folder"},
}


def test_a_task_stands_beside_what_it_is_to_be_held_against() -> None:
    """All rows have the same columns; the untrained encoder has one where it was asked for."""
    rows = task_rows(SECTION, {"A": {"median": 0.6}})
    assert [r["untrained"] for r in rows] == [0.6, None]
    assert [r["bag_of_words"] for r in rows] == [None, 0.6]
    assert (rows[0]["low"], rows[0]["high"], rows[1]["low"]) == (0.88, 0.91, None)
    assert (rows[0]["confidence"], rows[1]["confidence"]) == (0.75, None)
    assert rows[0].keys() == rows[1].keys()
    assert "untrained" not in task_rows(SECTION, {})[0]


def test_a_pooling_is_shown_where_one_is_not_position_0() -> None:
    """So that a column says nothing only where there is nothing to say."""
    pooled = {"A": {**TABLE["A"], "pooling": "mean"}, "B": {**TABLE["B"], "pooling": None}}
    assert [r["pooling"] for r in task_rows({**SECTION, "tasks": pooled}, {})] == ["mean", None]
    usual = {name: {**row, "pooling": "first"} for name, row in TABLE.items()}
    assert all("pooling" not in r for r in task_rows({**SECTION, "tasks": usual}, {}))


def test_a_mean_names_the_task_that_it_hangs_on_most() -> None:
    """Without B the arithmetic mean rises by 0.3, as far as it falls without A."""
    rows = {r["mean"]: r for r in mean_rows(SECTION)}
    assert rows["arithmetic"]["value"] == pytest.approx(0.6)
    assert abs(rows["arithmetic"]["changes_by"]) == pytest.approx(0.3)
    assert (rows["harmonic"]["value"], rows["harmonic"]["without"]) == (pytest.approx(0.45), "B")
    assert (rows["normalised"]["value"], rows["normalised"]["without"]) == (None, None)


def test_a_table_is_not_left_to_be_misread(capsys: pytest.CaptureFixture[str]) -> None:
    """What a baseline reaches without a model, and why there is no interval; nothing is said where neither is so."""
    tasks = {"A": row(0.9), "B": {**row(0.5, bag_of_words=0.6), "n": 2}}
    for left, said in ((["A", "B"], True), (["A"], False)):
        section = {**SECTION, "tasks": {name: tasks[name] for name in left}, "curves": {}}
        show_scores({"glue-P1": section}, {}, Screen(as_json=True))
        shown = capsys.readouterr().out
        assert ("no better than a baseline without a model: B 0.5 (majority 0.5, bag_of_words 0.6)" in shown) is said
        assert ("fewer than 3 seeds has no interval" in shown) is said


def test_everything_of_a_section_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Tasks, means, curves, and what was left out."""
    show_scores({"glue-P1": SECTION}, {}, Screen(as_json=True))
    shown = capsys.readouterr().out
    for part in ('"task": "A"', '"mean": "geometric"', '"fraction": 0.5', '"left_out"', "no folder"):
        assert part in shown
