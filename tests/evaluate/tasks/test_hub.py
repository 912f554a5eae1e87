import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpuday.core.errors import DataError, EnvironmentFault
from gpuday.evaluate.tasks import load, parse_tasks
from gpuday.evaluate.tasks.glue import GLUE
from gpuday.evaluate.tasks.hub import is_hub, read_hub
from gpuday.evaluate.tasks.single import CONLL, RACE, SQUAD, SWAG
from gpuday.evaluate.tasks.superglue import SUPERGLUE

TASKS = {task.name: task for task in (*GLUE, *SUPERGLUE)}


class Split(list[dict[str, Any]]):
    """Rows with features, as the library gives them."""

    features: dict[str, Any] = {}


class Library:
    """Stands in for `datasets`: splits by (name, configuration, split)."""

    def __init__(self, **splits: list[dict[str, Any]]) -> None:
        self.splits, self.asked, self.features = splits, [], {}

    def load_dataset(self, name: str, config: str | None, *, split: str) -> Split:
        self.asked.append((name, config, split))
        key = f"{config}_{split}" if f"{config}_{split}" in self.splits else split
        if key not in self.splits:
            raise ValueError(f"Unknown split {split!r}")
        found = Split(self.splits[key])
        found.features = self.features
        return found


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library()
    monkeypatch.setitem(sys.modules, "datasets", found)
    return found


def nli(rows: int, label: int) -> list[dict[str, Any]]:
    return [{"premise": f"p{i}", "hypothesis": f"h{i}", "label": label, "idx": i} for i in range(rows)]


def test_mnli_comes_with_its_companions(library: Library) -> None:
    """From the splits that the hub has; the diagnostic set, whose labels it hides, is left out."""
    library.splits = {
        "train": nli(4, 1), "validation_matched": nli(3, 2), "validation_mismatched": nli(2, 0), "ax_test": nli(5, -1),
        "mnli_test_matched": nli(6, -1), "mnli_test_mismatched": nli(7, -1),
    }  # fmt: skip
    data = read_hub(TASKS["MNLI"], test=True)
    assert library.asked[:2] == [("nyu-mll/glue", "mnli", "train"), ("nyu-mll/glue", "mnli", "validation_matched")]
    assert (data.train.text_a[0], data.train.text_b[0], data.dev.labels.tolist()) == ("p0", "h0", [2, 2, 2])
    assert {n: len(r) for n, r in data.companions.items()} == {"MNLI-mm": 2}
    assert {n: len(r) for n, r in data.test.items()} == {"MNLI": 6, "MNLI-mm": 7, "AX": 5}
    assert (data.test["AX"].labels, data.test["AX"].ids) == (None, ("0", "1", "2", "3", "4"))


def test_the_hash_follows_the_rows(library: Library) -> None:
    """The same rows, the same hash; another label, another."""
    library.splits = {"train": [{"sentence": "a", "label": 1}], "validation": [{"sentence": "b", "label": 0}]}
    first = read_hub(TASKS["CoLA"]).data_hash
    assert read_hub(TASKS["CoLA"]).data_hash == first
    library.splits["train"] = [{"sentence": "a", "label": 0}]
    assert read_hub(TASKS["CoLA"]).data_hash != first


def test_every_kind_is_read(library: Library) -> None:
    """Each in the fields that its copy on the hub has."""
    swag = {"sent1": "A.", "sent2": "B", "label": 1, **{f"ending{i}": str(i) for i in range(4)}}
    race = {"article": "A.", "question": "Q", "options": list("abcd"), "answer": "A", "example_id": "x"}
    squad = {"id": "1", "question": "Q", "context": "C d", "answers": {"text": ["d"], "answer_start": [2]}}
    boolq = {"question": "q", "passage": "p", "idx": 0, "label": 1}
    for task, row in ((SWAG, swag), (RACE, race), (SQUAD, squad), (TASKS["BoolQ"], boolq)):
        library.splits = {"train": [row] * 3, "validation": [row]}
        data = read_hub(task)
        assert (len(data.train), len(data.dev)) == (3, 1)
    library.features = {"ner_tags": SimpleNamespace(feature=SimpleNamespace(names=["O", "B-PER"]))}
    library.splits = {
        "train": [{"tokens": ["Ann", "sat"], "ner_tags": [1, 0]}],
        "validation": [{"tokens": ["a"], "ner_tags": [0]}],
    }
    data = read_hub(CONLL)
    assert (data.task.classes, data.train.labels.tolist()) == (("B-PER", "O"), [0, 1])


def test_the_word_hub_is_read_from_the_hub(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a folder is called so."""
    monkeypatch.chdir(tmp_path)
    library.splits = {"train": [{"sentence": "a", "label": 1}] * 5, "validation": [{"sentence": "b", "label": 0}]}
    selection = parse_tasks("cola,superglue", Path("hub"))
    assert [t.name for t in selection.tasks] == ["CoLA", *(t.name for t in SUPERGLUE)]
    assert len(load(selection.tasks[0], Path("hub"), train_rows=2).train) == 2
    (tmp_path / "hub").mkdir()
    assert not is_hub(Path("hub"))


def test_without_the_library_the_fix_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before any task is read; the tasks that need no file need no library."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    for names in ("glue", "cola"):
        with pytest.raises(EnvironmentFault, match="'datasets'") as caught:
            parse_tasks(names, Path("hub"))
        assert "gpuday[hub]" in caught.value.fix
    assert [t.name for t in parse_tasks("pydocs", Path("hub")).tasks] == ["pydocs"]


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (RuntimeError("Dataset scripts are no longer supported, but found a.py"), "that is a script: install an older"),
        (FileNotFoundError("Dataset 'a/b' doesn't exist on the Hub"), "has no such public data set"),
        (ConnectionError("Couldn't reach the Hub; see the description"), "check the network"),
        (ValueError("Unknown split"), "has another form"),
    ],
)
def test_a_fix_follows_from_the_cause(library: Library, monkeypatch, error: Exception, fix: str) -> None:
    """The network is blamed only where it is to blame; a folder always helps."""

    def broken(*_: object, **__: object) -> Split:
        raise error

    monkeypatch.setattr(library, "load_dataset", broken)
    with pytest.raises(DataError) as caught:
        read_hub(TASKS["CoLA"])
    assert fix in caught.value.fix and "--task-data DIR" in caught.value.fix


def test_what_the_hub_does_not_give_is_named(library: Library) -> None:
    """A split that is not there, rows in another form, a task that nobody put there."""
    with pytest.raises(DataError, match="cannot load train of nyu-mll/glue:cola: Unknown split"):
        read_hub(TASKS["CoLA"])
    library.splits = {"train": [{"text": "a", "label": 1}]}
    with pytest.raises(DataError, match="no text in column 'text_a'"):
        read_hub(TASKS["CoLA"])
    with pytest.raises(DataError, match="not on the hub"):
        read_hub(replace(TASKS["CoLA"], hub=""))
