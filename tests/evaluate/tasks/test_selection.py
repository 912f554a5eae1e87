from pathlib import Path

import pytest

from gpuday.core.errors import UsageError
from gpuday.evaluate.tasks import parse_tasks, suite
from gpuday.evaluate.tasks.selection import BY_NAME


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """CoLA and WNLI whole, MNLI in part, QNLI without train rows."""
    for name, files in {
        "CoLA": ("train.jsonl", "dev.jsonl"),
        "WNLI": ("train.tsv", "dev.tsv"),
        "MNLI-partial": ("train.jsonl.zst", "dev_matched.jsonl.zst"),
        "QNLI": ("dev.jsonl",),
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
    return tmp_path


def test_a_suite_is_what_the_folder_holds(folder: Path) -> None:
    """Tasks with both files are found, WNLI outside the mean; the others are named with the reason."""
    found = suite("glue", folder)
    assert [(t.name, t.in_mean) for t in found.tasks] == [("CoLA", True), ("MNLI", True), ("WNLI", False)]
    assert dict(found.left_out)["QNLI"] == "no train file"
    assert dict(found.left_out)["RTE"] == "no folder"


def test_names_are_read_in_any_case_and_once(folder: Path) -> None:
    """A suite and a task of it do not run the task twice."""
    assert [t.name for t in parse_tasks("cola, RTE,CoLA", folder).tasks] == ["CoLA", "RTE"]
    assert [t.name for t in parse_tasks("glue,pydocs,cola", folder).tasks] == ["CoLA", "MNLI", "WNLI", "pydocs"]
    assert parse_tasks("none").tasks == ()
    assert [t.name for t in parse_tasks("pydocs").tasks] == ["pydocs"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("colla", "'cola'"), ("", "no task is named"), ("glue", "--task-data"), ("rte", "--task-data")],
)
def test_what_cannot_be_run_is_refused_with_the_fix(text: str, message: str) -> None:
    """A misspelt name gets the nearest one, a task of files asks for the folder."""
    with pytest.raises(UsageError) as caught:
        parse_tasks(text)
    assert message in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """A suite of nothing is a mistake in the path."""
    with pytest.raises(UsageError, match="no task of glue") as refused:
        suite("glue", tmp_path)
    assert "holds CoLA/ or glue/CoLA/" in refused.value.fix and "CoLA/train.jsonl" in refused.value.fix


def test_an_unknown_suite_is_refused(tmp_path: Path) -> None:
    """The nearest suite is named."""
    with pytest.raises(UsageError, match="no suite"):
        suite("superglu", tmp_path)


def test_a_hyphen_may_be_left_out(tmp_path):
    """`sst2` and `stsb` are how the tasks are mostly typed."""
    names = [task.name for task in parse_tasks("SST2,stsb,cola", tmp_path).tasks]
    assert names == ["SST-2", "STS-B", "CoLA"]


def test_superglue_is_a_suite_of_what_its_folder_holds(tmp_path: Path) -> None:
    """Under the published names; what is not there is named with the reason, and both suites may be asked for."""
    for name, files in {"BoolQ": ("train.jsonl", "val.jsonl"), "RTE": ("train.jsonl",)}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
    found = parse_tasks("superglue", tmp_path)
    assert [t.name for t in found.tasks] == ["BoolQ"]
    assert dict(found.left_out) | {"RTE-SuperGLUE": "no dev file", "WiC": "no folder"} == dict(found.left_out)
    with pytest.raises(UsageError, match="no task of superglue") as caught:
        suite("superglue", tmp_path / "BoolQ")
    assert f"write --task-data {tmp_path}, which holds BoolQ" in caught.value.fix
    with pytest.raises(UsageError) as lacking:
        suite("glue", tmp_path)
    assert lacking.value.fix == "add what lacks: RTE: no dev file"


def test_tasks_that_stand_alone_are_named(tmp_path: Path) -> None:
    """SWAG, RACE, CoNLL-2003 and both versions of SQuAD."""
    names = [t.name for t in parse_tasks("swag,race,conll2003,squad,squad-2", tmp_path).tasks]
    assert names == ["SWAG", "RACE", "CoNLL-2003", "SQuAD", "SQuAD-2"]


def test_a_companion_is_asked_for_by_its_task(tmp_path: Path) -> None:
    """AX has no train set of its own."""
    for name, owner in (("ax", "mnli"), ("ax-b", "rte-superglue"), ("race-high", "race")):
        with pytest.raises(UsageError, match="no task is called") as caught:
            parse_tasks(name, tmp_path)
        assert caught.value.fix.startswith(f"write {owner},")


def test_every_task_has_a_name_of_its_own() -> None:
    """Scores, kept models and random streams go by it; a companion's scores stand beside them."""
    every = [*BY_NAME.values(), *(c for t in BY_NAME.values() for c in t.companions)]
    assert len({t.name.lower().replace("-", "") for t in every}) == len(every)
