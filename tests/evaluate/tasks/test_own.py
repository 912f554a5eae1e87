import json
from pathlib import Path

import numpy as np
import pytest

from gpuday.core.errors import DataError, GpudayError, UsageError
from gpuday.evaluate.tasks.own import own_task, told, unlabelled_rows


def table(path: Path, labels: list[str], *, texts: list[str] | None = None) -> Path:
    texts = texts or [f"text {i}" for i in range(len(labels))]
    path.write_text("review,stars\n" + "".join(f"{t},{y}\n" for t, y in zip(texts, labels, strict=True)))
    return path


def task(path: Path, **options):
    return own_task(path, text="review", label="stars", **options)


def test_stars_are_classes(tmp_path: Path) -> None:
    """Sorted as numbers, `.0` or not; a tenth is dev; the screen is told what was found."""
    data = task(table(tmp_path / "my file.csv", ["10.0", "2.0"] * 20))
    assert (data.task.kind, data.task.classes, data.task.suite) == ("classification", ("2", "10"), "own")
    assert (len(data.train), len(data.dev), data.train.labels.dtype) == (36, 4, np.int64)
    assert told(data) == {
        "task": "my-file-stars", "kind": "classification", "metrics": ["accuracy", "macro_f1", "matthews"],
        "train_rows": 36, "dev_rows": 4, "classes": {"2": 18, "10": 18}, "dev_rows_in_train": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([str(i) for i in range(40)], "regression"),
        (["0.5", "1.5"] * 20, "regression"),
        ([str(i % 20) for i in range(40)], "classification"),
        (["1e3", "nan"] * 20, "classification"),
        (["no", "yes"] * 20, "classification"),
    ],
)
def test_what_is_asked_follows_from_the_labels(tmp_path: Path, labels: list[str], kind: str) -> None:
    """Numbers of many values or with a fraction are a regression, words are classes."""
    found = task(table(tmp_path / "a.csv", labels))
    assert found.task.kind == kind
    assert found.train.labels.dtype == (np.float64 if kind == "regression" else np.int64)


def test_the_split_is_the_same_each_time_and_dev_may_be_given(tmp_path: Path) -> None:
    """A file of its own is taken whole; texts that train has too are counted, not dropped; both are in the hash."""
    path = table(tmp_path / "a.csv", ["a", "b"] * 20)
    first = task(path)
    assert (task(path).dev.text_a, task(path).data_hash) == (first.dev.text_a, first.data_hash)
    given = task(path, dev=table(tmp_path / "dev.csv", ["b", "a"], texts=["text 0", "other"]))
    assert (len(given.train), given.dev.labels.tolist(), told(given)["dev_rows_in_train"]) == (40, [1, 0], 1)
    assert given.data_hash != first.data_hash


def test_what_train_and_dev_hold_is_not_confused(tmp_path: Path) -> None:
    """The same bytes with the border elsewhere are another task."""
    rows, hashes = [f"w{i} X\nx Y\n\n" for i in range(40)], set()
    for border in (20, 30):
        parts = tmp_path / "train.conll", tmp_path / "dev.conll"
        for path, part in zip(parts, (rows[:border], rows[border:]), strict=True):
            path.write_text("".join(part))
        hashes.add(own_task(parts[0], dev=parts[1]).data_hash)
    assert len(hashes) == 2


def test_a_task_is_called_after_its_file_and_its_labels(tmp_path: Path) -> None:
    """Two columns of a file are two tasks, so that neither takes the other's place; a column `label` says nothing."""
    path = tmp_path / "my file.csv"
    path.write_text("t,a,b/c,label\n" + "".join(f"x{i},{i % 2},{i % 2},{i % 2}\n" for i in range(40)))
    names = [own_task(path, text="t", label=label).task.name for label in ("a", "b/c", "label")]
    assert names == ["my-file-a", "my-file-b-c", "my-file"]


def test_a_shared_text_is_told_whichever_of_a_pair_it_is(tmp_path: Path) -> None:
    """A row of dev counts once, be it the first text or the second, in whatever case."""
    path, dev = tmp_path / "a.csv", tmp_path / "dev.csv"
    path.write_text("a,b,y\n" + "".join(f"x{i},z{i},{i % 2}\n" for i in range(40)))
    dev.write_text("a,b,y\nX0,new,1\nnew, z1,0\nx2,z2,0\nnew,newer,1\n")
    assert told(own_task(path, text="a", text_b="b", label="y", dev=dev))["dev_rows_in_train"] == 3


def test_a_pair_has_two_texts(tmp_path: Path) -> None:
    """The second column is `text_b`."""
    (tmp_path / "a.csv").write_text("a,b,y\n" + "".join(f"x{i},z{i},{i % 2}\n" for i in range(40)))
    data = own_task(tmp_path / "a.csv", text="a", text_b="b", label="y")
    assert data.task.pair
    assert all(a[1:] == b[1:] for a, b in zip(data.train.text_a, data.train.text_b, strict=True))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 40, "all labels are 'a'"),
        ([""] * 40, "has no labels"),
        (["a", "b", ""] * 20, "20 of 60 rows have no label"),
        (["a", "b"] * 5, "10 rows are too few"),
        ([f"w{i}" for i in range(40)], "40 different labels in 40 rows"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(tmp_path: Path, labels: list[str], message: str) -> None:
    """Before anything is trained, with the column or the line."""
    with pytest.raises(DataError, match=message) as caught:
        task(table(tmp_path / "a.csv", labels))
    assert "a.csv" in caught.value.where
    assert caught.value.fix


def test_empty_texts_are_counted_with_the_first_line(tmp_path: Path) -> None:
    """A blank is no text."""
    texts = [" " if i in (3, 7) else f"t{i}" for i in range(40)]
    with pytest.raises(DataError, match="2 of 40 rows have no text in column 'review'") as caught:
        task(table(tmp_path / "a.csv", ["a", "b"] * 20, texts=texts))
    assert caught.value.where.endswith("line 5")


def test_a_label_that_only_dev_has_is_refused(tmp_path: Path) -> None:
    """With its line and the known ones; of a regression what is no number."""
    path = table(tmp_path / "a.csv", ["a", "b"] * 20)
    with pytest.raises(DataError, match="label 'c' is not among") as caught:
        task(path, dev=table(tmp_path / "dev.csv", ["a", "c"]))
    assert (caught.value.where.endswith("dev.csv, line 3"), caught.value.fix) == (True, "known: a, b")
    numbers = table(tmp_path / "n.csv", [str(i) for i in range(40)])
    with pytest.raises(DataError, match="'a' is not a number"):
        task(numbers, dev=tmp_path / "dev.csv")


def test_columns_of_words_are_a_tagging(tmp_path: Path) -> None:
    """No flag is needed; entities are scored where the tags have prefixes, else the words."""
    for name, tags, metrics in (
        ("a.conll", ("B-PER", "O"), ("entity_f1", "accuracy")),
        ("b.txt", ("N", "V"), ("accuracy",)),
    ):
        (tmp_path / name).write_text("".join(f"w{i} {tags[0]}\nx {tags[1]}\n\n" for i in range(40)))
        data = own_task(tmp_path / name)
        assert (data.task.kind, data.task.classes, data.task.metrics) == ("tagging", tags, metrics)
        assert (len(data.train), len(data.dev), data.dev.labels.tolist()) == (36, 4, [0, 1] * 4)
    rows = unlabelled_rows(data.task, tmp_path / "b.txt")
    assert (rows.labels, rows.words[0]) == (None, ("w0", "x"))


def test_squads_json_is_a_span(tmp_path: Path) -> None:
    """Packed or not; the paragraphs of train and dev are not the same."""
    import gzip

    paragraphs = [
        {
            "context": f"By {i}.",
            "qas": [{"id": f"{i}", "question": "Who?", "answers": [{"text": f"{i}", "answer_start": 3}]}],
        }
        for i in range(40)
    ]
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"data": [{"paragraphs": paragraphs}]}).encode()))
    data = own_task(path)
    assert (data.task.name, data.task.kind, data.task.main, len(data.dev)) == ("a", "span", "span_f1", 4)
    assert not set(data.train.text_b) & set(data.dev.text_b)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.csv", {"text": "review"}, "--label"),
        ("a.csv", {"label": "stars"}, "--text"),
        ("a.csv", {"text": "stars", "label": "starz"}, "did you mean 'stars'"),
        ("a.txt", {"text": "review"}, "leave these flags out"),
        ("a.csv", {"text": "review", "label": "stars", "dev": "a.txt"}, "--dev"),
    ],
)
def test_flags_that_do_not_fit_the_file_are_named(tmp_path: Path, name: str, options: dict, message: str) -> None:
    """A fault of the command, not of the file."""
    table(tmp_path / "a.csv", ["a", "b"] * 20)
    (tmp_path / "a.txt").write_text("a O\n")
    options |= {"dev": tmp_path / options["dev"]} if "dev" in options else {}
    with pytest.raises(UsageError) as caught:
        own_task(tmp_path / name, **options)
    assert message in str(caught.value)


def test_rows_to_be_answered_need_no_labels(tmp_path: Path) -> None:
    """The texts alone, as many columns as the task has."""
    path = table(tmp_path / "a.csv", ["a", "b"] * 20)
    data = task(path)
    rows = unlabelled_rows(data.task, path, text="review")
    assert (len(rows), rows.labels) == (40, None)
    for options in ({}, {"text": "review", "text_b": "stars"}):
        with pytest.raises(GpudayError, match="1 text"):
            unlabelled_rows(data.task, path, **options)
