"""What summary.json says of scores: by suite and protocol, added to by later evaluations."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gpuday.evaluate.scorefile import Score
from gpuday.evaluate.sections import Scored, added, backed, median_of, sections, task_row
from gpuday.evaluate.tasks import Task
from gpuday.evaluate.tasks.glue import GLUE
from made_up_score import SCORE

TASKS = {task.name: task for task in GLUE}
MATCHED, MISMATCHED = TASKS["MNLI"], TASKS["MNLI"].companions[0]


def score(task: Task, value: float, seed: int = 0, **other: object) -> Score:
    """A score that was made up."""
    made = replace(
        SCORE,
        task=task.name,
        version=task.version,
        suite=task.suite,
        kind=task.kind,
        seed=seed,
        metric=task.main,
        value=value,
        metrics={task.main: value},
        interval={"low": value - 0.1, "high": value + 0.1},
    )
    return replace(made, **other)  # type: ignore[arg-type]


def scored(task: Task, *values: float, **other: object) -> Scored:
    return Scored(task=task, asked="P1", scores=tuple(score(task, v, seed, **other) for seed, v in enumerate(values)))


def test_a_task_has_median_intervals_and_marks() -> None:
    """Over seeds, and over rows of the seed that is the median; chance is the majority where none is published."""
    row = task_row(TASKS["RTE"], scored(TASKS["RTE"], 0.6, 0.8, 0.7).scores)
    assert (row["median"], row["n"], row["seeds"], row["spread"]) == (0.7, 3, [0, 1, 2], pytest.approx(0.2))
    assert row["interval"]["low"] <= 0.7 <= row["interval"]["high"] and row["interval"]["method"] in (
        "BCa",
        "percentile",
    )
    assert row["rows_interval"] == {"low": pytest.approx(0.6), "high": pytest.approx(0.8)}
    assert row["reference"] == TASKS["RTE"].reference and row["chance"] == 0.5
    assert task_row(TASKS["RTE"], scored(TASKS["RTE"], 0.6, 0.8).scores)["interval"] is None
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize(("values", "seed"), [((0.3, 0.1, 0.2), 2), ((0.1, 0.2), 0), ((0.5, 0.5, 0.5), 1)])
def test_the_median_seed_is_one_of_them(values: tuple[float, ...], seed: int) -> None:
    """Of two in the middle the lower one; of equal ones by their number."""
    assert median_of(scored(TASKS["RTE"], *values).scores).seed == seed


def test_the_mean_counts_mnli_once_and_its_means_are_given_twice() -> None:
    """The matched set is in the mean; beside it stand all means with both sets, as the paper counts."""
    found = [scored(MATCHED, 0.8), scored(MISMATCHED, 0.6), scored(TASKS["RTE"], 0.5), scored(TASKS["WNLI"], 0.1)]
    section = sections(found, {"MNLI": "no", "QQP": "no folder", "pydocs": "no"})["glue-P1"]
    assert section["mean"] == pytest.approx(0.65) == section["aggregates"]["arithmetic"]["value"]
    assert section["mean_of"]["tasks"] == ["MNLI", "RTE"]
    assert section["aggregates_mnli_twice"]["arithmetic"]["value"] == pytest.approx((0.8 + 0.6 + 0.5) / 3)
    assert section["left_out"] == {"QQP": "no folder", "MNLI": "no"}
    json.dumps(section, allow_nan=False)


def test_suites_are_apart() -> None:
    """One section each; a suite without a task that counts has no mean."""
    own = Task(name="stars", suite="own", classes=("1", "2"), in_mean=False)
    found = sections([scored(TASKS["RTE"], 0.5), scored(own, 0.9)], {})
    assert list(found) == ["glue-P1", "own-P1"]
    assert (found["own-P1"]["mean"], found["own-P1"]["aggregates"]) == (None, None)


def test_a_later_evaluation_adds_its_tasks() -> None:
    """The means are taken anew over all of them; a task that was scored again is replaced, and no other suite is touched."""
    first = sections([scored(TASKS["RTE"], 0.5), scored(TASKS["CoLA"], 0.1)], {"SST-2": "no folder"})
    second = sections([scored(TASKS["CoLA"], 0.3, 0.3), scored(TASKS["SST-2"], 0.7)], {})
    both = added({**first, "other-P1": {**first["glue-P1"], "suite": "other"}}, second)
    assert both["other-P1"]["tasks"].keys() == {"RTE", "CoLA"}
    section = both["glue-P1"]
    assert {name: row["median"] for name, row in section["tasks"].items()} == {"RTE": 0.5, "CoLA": 0.3, "SST-2": 0.7}
    assert section["mean"] == pytest.approx(0.5) and section["seeds"] == [0, 1] and section["left_out"] == {}


def test_tasks_whose_files_are_gone_are_forgotten(tmp_path: Path) -> None:
    """Of one or of all seeds: the means are taken anew without them, and an empty section goes; what does not say of which
    weights it is stays."""
    own = Task(name="stars", suite="own", classes=("1", "2"), in_mean=False)
    told = [scored(TASKS["RTE"], 0.5, 0.6), scored(TASKS["CoLA"], 0.1), scored(own, 0.9)]
    first = {**sections(told, {}), "glue-P2": {"protocol": "P2", "tasks": {"CoLA": {"median": 0.2}}}}
    for name in ("RTE/0", "RTE/1", "CoLA/0"):
        path = tmp_path / "glue" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    kept, gone = backed(first, tmp_path)
    assert gone == ["own-P1/stars"] and kept == {name: first[name] for name in ("glue-P1", "glue-P2")}
    (tmp_path / "glue" / "RTE" / "1.json").unlink()
    kept, gone = backed(first, tmp_path)
    assert gone == ["glue-P1/RTE", "own-P1/stars"] and list(kept["glue-P1"]["tasks"]) == ["CoLA"]
    assert kept["glue-P1"]["mean"] == kept["glue-P1"]["aggregates"]["arithmetic"]["value"] == pytest.approx(0.1)
    assert backed(None, tmp_path) == (None, [])
    assert backed(first, tmp_path / "elsewhere") == (first, [])  # moved away: no file, no word against it


def test_points_of_a_curve_whose_files_are_gone_are_forgotten(tmp_path: Path) -> None:
    """One of a share by its folder; and the curve when nothing but the point of all rows is left."""
    whole = scored(TASKS["RTE"], 0.5)
    shares = tuple(score(TASKS["RTE"], f, fraction=f, train_rows=int(1000 * f)) for f in (0.25, 0.5))
    first = sections([replace(whole, shares=shares)], {})
    for name in ("glue", "glue-fraction-0.25", "glue-fraction-0.5"):
        path = tmp_path / name / "RTE" / "0.json"
        path.parent.mkdir(parents=True)
        path.touch()
    assert backed(first, tmp_path) == (first, [])
    (tmp_path / "glue-fraction-0.25" / "RTE" / "0.json").unlink()
    kept, gone = backed(first, tmp_path)
    assert gone == ["glue-P1/RTE at 0.25"]
    assert [point["fraction"] for point in kept["glue-P1"]["curves"]["RTE"]] == [0.5, 1.0]
    (tmp_path / "glue-fraction-0.5" / "RTE" / "0.json").unlink()
    kept, _ = backed(first, tmp_path)
    assert kept["glue-P1"]["curves"] == {} and kept["glue-P1"]["tasks"] == first["glue-P1"]["tasks"]


def test_scores_of_other_weights_are_not_mixed_in() -> None:
    """A section of other weights is replaced whole; what is no section, or has no tasks, is dropped."""
    first = sections([scored(TASKS["RTE"], 0.5)], {})
    second = sections([scored(TASKS["CoLA"], 0.3, model_hash="another")], {})
    assert list(added(first, second)["glue-P1"]["tasks"]) == ["CoLA"]
    assert list(added({"protocol": "P1", "tasks": {}, "mean": None}, second)) == ["glue-P1"]
    assert added(None, second) == second


def test_sections_of_other_weights_go_whatever_they_are_called() -> None:
    """A summary speaks of one model."""
    first = sections([scored(TASKS["RTE"], 0.5)], {})
    second = sections([scored(TASKS["CoLA"], 0.3, model_hash="another")], {})
    assert list(added({"superglue-P1": first["glue-P1"]}, second)) == ["glue-P1"]


def curved(share: float, *values: float, **other: object) -> Scored:
    """RTE on all its rows, and on a share of them."""
    rows = int(100 * share)
    part = score(TASKS["RTE"], 0.4, fraction=share, train_rows=rows, **other)
    return replace(scored(TASKS["RTE"], *values, **other), shares=(part,))


def test_a_later_share_extends_the_curve() -> None:
    """The whole's point is the newest; points of other rows are not kept."""
    first = sections([curved(0.5, 0.6)], {})
    both = added(first, sections([curved(0.1, 0.6, 0.8, 0.7)], {}))["glue-P1"]
    assert [(p["fraction"], p["rows"], p["n"]) for p in both["curves"]["RTE"]] == [
        (0.1, 10, 1),
        (0.5, 50, 1),
        (1.0, 100, 3),
    ]
    assert both["curves"]["RTE"][-1]["median"] == both["tasks"]["RTE"]["median"]
    again = added(first, sections([scored(TASKS["RTE"], 0.6, 0.8)], {}))["glue-P1"]
    assert [(p["fraction"], p["n"]) for p in again["curves"]["RTE"]] == [(0.5, 1), (1.0, 2)]
    other = added(first, sections([curved(0.1, 0.6, data_hash="e")], {}))["glue-P1"]
    assert [p["fraction"] for p in other["curves"]["RTE"]] == [0.1, 1.0]
    assert added(first, sections([scored(TASKS["RTE"], 0.6, data_hash="e")], {}))["glue-P1"]["curves"] == {}


def test_a_section_of_before_there_were_several_stays() -> None:
    """By the name of its suite and protocol, for as many evaluations as follow; beside a new one of that name, not in it."""
    old = {"protocol": "P1", "tasks": {"CoLA": {"median": 0.2}, "RTE": {"median": 0.5}}, "mean": 0.35}
    own = Task(name="stars", suite="own", classes=("1", "2"), in_mean=False)
    first = added(old, sections([scored(own, 0.9)], {}))
    assert list(first) == ["glue-P1", "own-P1"] and first["glue-P1"] == old
    both = added(first, sections([scored(TASKS["RTE"], 0.6)], {}))
    assert both["glue-P1-earlier"] == old and list(both["glue-P1"]["tasks"]) == ["RTE"]
    assert added(both, sections([scored(TASKS["CoLA"], 0.6)], {}))["glue-P1-earlier"] == old
    assert list(added({"protocol": "P1-short", "tasks": {"pydocs": {}}}, {})) == ["pydocs-P1-short"]


def test_what_a_score_starts_from_is_in_its_row() -> None:
    """Points of a curve that began elsewhere are not of this one."""
    assert task_row(TASKS["RTE"], scored(TASKS["RTE"], 0.6, start="MNLI").scores)["start"] == "MNLI"
    first = sections([curved(0.5, 0.6, start="MNLI")], {})
    other = added(first, sections([curved(0.1, 0.6, start="MNLI, capped")], {}))["glue-P1"]
    assert [p["fraction"] for p in other["curves"]["RTE"]] == [0.1, 1.0]
