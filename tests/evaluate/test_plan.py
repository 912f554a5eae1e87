"""What is to be scored is settled before anything is trained: names of protocols, shares of rows, tasks and their order."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate.plan import fractions_of, make_plan, pooled, protocol_of, settings_of, uncapped, unpooled
from gpuday.evaluate.protocols import P1, P2, PROTOCOLS
from gpuday.evaluate.tasks import TaskData
from toy_tasks import TASKS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """CoLA and RTE, twenty rows each."""
    for task, row in (("CoLA", {"text_a": "a"}), ("RTE", {"text_a": "a", "text_b": "b"})):
        (tmp_path / task).mkdir()
        for part in ("train", "dev"):
            lines = [json.dumps({**row, "label": i % 2}) + "\n" for i in range(20)]
            (tmp_path / task / f"{part}.jsonl").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "rows", "wanted", "seeds"),
    [
        ("P1", None, "P1", 5),
        ("P1", 500, "P1-rows-500", 5),
        ("P1", 8000, "P1-short", 3),
        ("P1-small", 8000, "P1-small-short", 3),
        ("P1-short", 500, "P1-rows-500", 3),
        ("P1-small-short", None, "P1-small-short", 3),
        ("P2", 64, "P2-rows-64", 5),
    ],
)
def test_a_cap_on_rows_is_in_the_name(name: str, rows: int | None, wanted: str, seeds: int) -> None:
    """Only 8,000 rows are `-short`; without the cap it is the protocol it was made of."""
    found = protocol_of(name, rows)
    assert (found.name, found.seeds, found.rows) == (wanted, seeds, rows or PROTOCOLS[name].rows)
    plain = uncapped(found)
    assert (plain.name, plain.rows) == (name.removesuffix("-short"), None)


def test_a_cap_that_does_not_bite_is_not_in_the_name(folder: Path) -> None:
    """A task with fewer rows is scored under the protocol itself, and shares its files."""
    plan = make_plan(tasks="cola", task_data=folder, protocol="P1-short")
    assert (plan.used(plan.data[0]).name, plan.seeds) == ("P1", 3)
    capped = make_plan(tasks="cola", task_data=folder, train_rows=16, seeds=2)
    assert (capped.used(capped.data[0]).name, capped.seeds) == ("P1-rows-16", 2)


@pytest.mark.parametrize(
    ("name", "rows", "wanted"),
    [
        ("P1", None, "P1-mean"),
        ("P1-small-short", None, "P1-small-mean-short"),
        ("P1", 500, "P1-mean-rows-500"),
        ("P2", None, "P2-mean"),
    ],
)
def test_a_pooling_that_is_asked_for_is_in_the_name(name: str, rows: int | None, wanted: str) -> None:
    """Before a cap, so that both can be taken off again; its scores never lie among those of every model's own."""
    plain = protocol_of(name, rows)
    found = pooled(plain, "mean")
    assert (found.name, found.pooling, found.rows) == (wanted, "mean", plain.rows)
    assert unpooled(found) == plain == pooled(plain, None) == unpooled(plain)
    assert unpooled(uncapped(found)) == uncapped(plain)


def test_a_task_that_reads_every_token_has_no_pooling(folder: Path) -> None:
    """It is scored under the protocol itself, and shares its files; a task of rows goes by the name with the pooling."""
    tags, _ = TASKS["tagging"]
    plan = make_plan(tasks="cola", task_data=folder, train_rows=16, pooling="mean")
    (rows,) = plan.data
    names = [plan.used(data).name for data in (rows, replace(rows, task=tags))]
    assert names == ["P1-mean-rows-16", "P1-rows-16"]
    assert [plan.used(data).pooling for data in (rows, replace(rows, task=tags))] == ["mean", None]


def test_shares_are_nested_and_do_not_depend_on_the_order_asked(toy_data: TaskData) -> None:
    """Every row of a smaller share is one of a larger share; a cap comes first."""
    plan = make_plan(tasks="none", own=toy_data, fractions=(0.25, 1.0, 0.5))
    assert plan.fractions == (1.0, 0.5, 0.25)
    parts = [plan.part(toy_data, fraction).train for fraction in plan.fractions]
    assert [len(part) for part in parts] == [200, 100, 50]
    for larger, smaller in pairwise(parts):
        assert set(smaller.text_a) <= set(larger.text_a)
    capped = replace(plan, protocol=protocol_of(P1, 80))
    half = capped.part(toy_data, 0.5).train
    assert len(half) == 40 and set(half.text_a) <= set(capped.part(toy_data, 1.0).train.text_a)


@pytest.mark.parametrize("text", ["", "0", "1.5", "half", "1,,0.5", "-0.1", "nan"])
def test_shares_that_are_none_are_refused(text: str) -> None:
    """A share is above 0 and up to 1."""
    with pytest.raises(UsageError, match="no shares"):
        fractions_of(text)


def test_shares_are_numbers_with_commas() -> None:
    """All rows where nothing is said."""
    assert (fractions_of(None), fractions_of("1, 0.5,0.1")) == ((1.0,), (1.0, 0.5, 0.1))


def test_a_protocol_that_sweeps_makes_no_curve(folder: Path) -> None:
    """The setting would change along it."""
    with pytest.raises(UsageError, match="P2 chooses a setting"):
        make_plan(tasks="cola", task_data=folder, protocol="P2", fractions=(0.5,))


def test_a_task_whose_parent_is_missing_is_refused_or_left_out(folder: Path) -> None:
    """Named, it is a fault; in a suite it is left out with its reason, and the others stay."""
    small = replace(PROTOCOLS["P2"], batch=16)
    with pytest.raises(UsageError, match="P2 starts RTE from MNLI"):
        make_plan(tasks="rte", task_data=folder, protocol=small)
    plan = make_plan(tasks="glue", task_data=folder, protocol=small)
    assert [data.task.name for data in plan.data] == ["CoLA"]
    assert dict(plan.left_out)["RTE"] == "P2 starts it from MNLI: no folder"


def with_mnli(folder: Path, train: int) -> Path:
    """The folder with MNLI beside the others, and a test set of its own."""
    (folder / "MNLI").mkdir()
    for part, rows in (("train", train), ("dev_matched", 20), ("test_matched", 20)):
        lines = [json.dumps({"text_a": "a", "text_b": "b", "label": i % 3}) + "\n" for i in range(rows)]
        (folder / "MNLI" / f"{part}.jsonl").write_text("".join(lines))
    return folder


def test_a_task_goes_by_the_cap_where_the_one_that_it_starts_from_is_capped(folder: Path) -> None:
    """RTE's twenty rows are all used, but its encoder comes from a part of MNLI's; CoLA's does not."""
    small = replace(P2, batch=16)
    plan = make_plan(tasks="rte,cola", task_data=with_mnli(folder, 60), protocol=small, train_rows=30)
    names = {data.task.name: plan.used(data).name for data in plan.data}
    assert names == {"MNLI": "P2-rows-30", "RTE": "P2-rows-30", "CoLA": "P2"}


def test_a_parent_that_was_not_named_answers_its_test_rows(folder: Path) -> None:
    """A submission needs MNLI's answers whoever asked for MNLI."""
    small = replace(P2, batch=16)
    plan = make_plan(tasks="rte", task_data=with_mnli(folder, 60), protocol=small, test=True)
    assert {data.task.name: list(data.test) for data in plan.data} == {"MNLI": ["MNLI"], "RTE": []}


def test_a_users_own_task_gets_no_grid_by_its_name(toy_data: TaskData) -> None:
    """A file called mnli.csv is not GLUE's MNLI, which is passed over few times."""
    named = replace(toy_data.task, name="mnli")
    assert {setting.epochs for setting in settings_of(P2, replace(named, suite="own"))} == {2, 5, 10}
    assert {setting.epochs for setting in settings_of(P2, replace(named, suite="glue"))} == {1, 2, 3}


def test_rows_that_cannot_be_used_are_found_when_a_plan_is_made(folder: Path) -> None:
    """Of every share, before any subject is there."""
    lines = [json.dumps({"text_a": "a", "label": 1}) + "\n" for _ in range(20)]
    (folder / "CoLA" / "train.jsonl").write_text("".join(lines))
    with pytest.raises(DataError, match="all rows are of one class"):
        make_plan(tasks="cola", task_data=folder)
