"""The table of scores."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuday.report import scores
from gpuday.report.load import load_run
from gpuday.report.overview import mean_scores

RECORDS = Path(__file__).resolve().parents[2] / "records"


def test_a_task_has_median_spread_seeds_and_baselines(run: Path) -> None:
    """Hand-written values of the first task."""
    task = scores.tasks(load_run(run))[0]
    assert (task.name, task.metric, task.median, task.spread, task.n) == (
        "package",
        "accuracy",
        "0.713",
        "0.699 to 0.720",
        5,
    )
    assert task.baselines == "majority 0.213, bag_of_words 0.681"
    assert task.rows == "8,000 of 14,206 train, 1,702 dev"
    assert task.dots[0] == 70.11
    assert task.marks == (21.3, 68.1)


def test_percentages_are_drawn_on_their_own_scale(new_run: Callable[..., Path]) -> None:
    """A score of 71 is not drawn beyond the end."""
    section = {"tasks": {"rte": {"values": [71.0], "baseline": 52.7, "chance": 50}}}
    (task,) = scores.tasks(load_run(new_run(summary={"scores": section})))
    assert (task.dots, sorted(task.marks), task.median, task.spread) == ((71.0,), [50.0, 52.7], "71.000", "\N{EN DASH}")


def test_the_protocol_is_stated(new_run: Callable[..., Path]) -> None:
    """And where it is not known, that is stated."""
    (suite,) = scores.suites(load_run(new_run()))
    assert suite.name == "pydocs-P1"
    assert suite.protocol.startswith("P1 (one set of hyperparameters, at most 5 epochs); seeds 0, 1")
    unnamed = load_run(new_run("b", summary={"scores": {"tasks": {"a": 0.5}}}))
    assert scores.suites(unnamed)[0].protocol == "protocol not stated"
    assert scores.tasks(unnamed)[0].median == "0.500"
    assert scores.suites(load_run(new_run("c", summary={"scores": None}))) == []


def test_intervals_stand_beside_the_median(run: Path) -> None:
    """Over seeds and over rows, the latter with its method; the mark for people is drawn; a task without them says so."""
    first, second = scores.tasks(load_run(run))
    assert (first.interval, first.rows_interval) == ("0.699 to 0.720", "0.691 to 0.734 (percentile, rows)")
    assert (first.reference, first.reference_mark) == ("0.920", 92.0)
    assert (second.interval, second.reference, second.reference_mark) == ("\N{EN DASH}", "\N{EN DASH}", None)


def test_means_stand_side_by_side_with_and_without_each_task(run: Path) -> None:
    """MNLI twice where the summary has it; a mean that was not made is a dash."""
    (suite,) = scores.suites(load_run(run))
    none = "\N{EN DASH}"
    assert suite.means == (
        ("all tasks", "0.704", none, none, "0.706"),
        ("all tasks, MNLI's two dev sets as two", "0.710", none, none, none),
        ("without package", "0.696 (-0.008)", none, none, none),
        ("without section", "0.713 (+0.008)", none, none, "0.706 (+0.000)"),
    )
    assert suite.notes == (
        "Without a published mark for people, and so not in the normalised mean: section.",
        "Left out: heading: no folder.",
    )


def test_a_pooling_other_than_position_0_is_noted(new_run: Callable[..., Path]) -> None:
    """Under the table of the tasks that have it."""
    rows = {"CoLA": {"values": [0.5], "pooling": "mean"}, "RTE": {"values": [0.5], "pooling": "first"}, "X": 0.5}
    (suite,) = scores.suites(load_run(new_run(summary={"scores": {"glue-P1": {"protocol": "P1", "tasks": rows}}})))
    assert suite.notes == ("Read from the mean of a row's tokens, not from position 0: CoLA.",)


def test_every_suite_and_protocol_has_a_table(new_run: Callable[..., Path]) -> None:
    """Two protocols never share one."""
    rows = {"CoLA": {"values": [0.5]}}
    section = {name: {"protocol": name[5:], "tasks": rows} for name in ("glue-P1", "glue-P2")}
    found = scores.suites(load_run(new_run(summary={"scores": section})))
    assert [(suite.name, suite.protocol, suite.tasks[0].name) for suite in found] == [
        ("glue-P1", "P1", "CoLA"),
        ("glue-P2", "P2", "CoLA"),
    ]


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*/*/summary.json")), ids=lambda path: path.parent.name)
def test_every_record_is_read(path: Path) -> None:
    """Every task and its protocol, of a summary of before there were several suites and of one since."""
    kept = json.loads(path.read_text()).get("scores") or {}
    sections = [old for old in ([kept] if "tasks" in kept else kept.values()) if old["tasks"]]
    found = scores.suites(load_run(path.parent))
    assert [[row.name for row in suite.tasks] for suite in found] == [list(old["tasks"]) for old in sections]
    assert all(suite.protocol.startswith(old["protocol"]) for suite, old in zip(found, sections, strict=True))


def test_scores_of_tasks_that_are_done_stand_in_for_the_summary(new_run: Callable[..., Path]) -> None:
    """A run whose evaluation was interrupted shows what it has."""
    run = new_run(summary={"scores": None})
    for seed, value in ((0, 0.6), (1, 0.7)):
        path = run / "scores" / "glue" / "rte" / f"{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"metric": "accuracy", "value": {value}}}')
    (task,) = scores.tasks(load_run(run))
    assert (task.name, task.median, task.n) == ("glue/rte", "0.650", 2)


def test_scores_whose_files_are_gone_are_not_shown(new_run: Callable[..., Path]) -> None:
    """They are named, and no mean counts them; without any file, as in a record, the summary is taken at its word, and that
    is said. A mean of the others stays."""
    rows = {n: {"values": [0.5, 0.6], "seeds": [0, 1], "protocol": "P1"} for n in ("CoLA", "RTE", "WNLI")}
    means = {"arithmetic": {"value": 0.55, "without": {"CoLA": {"value": 0.55, "change": 0.0}}}}
    section = {
        "suite": "glue",
        "protocol": "P1",
        "tasks": rows,
        "mean": 0.55,
        "mean_of": {"tasks": ["CoLA", "RTE"]},
        "aggregates": means,
    }
    run = new_run(summary={"scores": {"glue-P1": section}})
    (whole,) = scores.suites(load_run(run))
    assert (len(whole.tasks), whole.notes) == (
        3,
        ("The score files are not in this folder: this is what its summary says.",),
    )
    for name in ("CoLA/0", "CoLA/1", "RTE/0", "RTE/1", "WNLI/0"):
        path = run / "scores" / "glue" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (found,) = scores.suites(load_run(run))
    assert [task.name for task in found.tasks] == ["CoLA", "RTE"] and found.means
    assert found.notes == ("Not shown, since their score files are gone: WNLI.",)
    assert mean_scores(load_run(run)) == {"glue-P1": 0.55}
    (run / "scores" / "glue" / "RTE" / "1.json").unlink()
    (fewer,) = scores.suites(load_run(run))
    assert [task.name for task in fewer.tasks] == ["CoLA"] and fewer.means == ()
    assert fewer.notes[-1] == "No means: they count one of these."
    assert mean_scores(load_run(run)) == {}


def test_an_interval_says_what_it_holds() -> None:
    """Three seeds do not bring it to 95%; older summaries do not say."""
    ends = {"low": 0.6, "high": 0.7, "method": "BCa"}
    assert scores.interval(ends) == "0.600 to 0.700"
    assert scores.interval({**ends, "confidence": 0.75}) == "0.600 to 0.700 (75%)"
    assert scores.interval({**ends, "confidence": 0.9375, "method": "percentile"}) == "0.600 to 0.700 (94%, percentile)"
