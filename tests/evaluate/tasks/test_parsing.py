import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpuday.core.errors import DataError
from gpuday.evaluate.tasks.glue import GLUE
from gpuday.evaluate.tasks.parsing import layout, parse_rows
from gpuday.evaluate.tasks.single import CONLL, SQUAD_2, SWAG
from gpuday.evaluate.tasks.superglue import AX_G, SUPERGLUE
from gpuday.evaluate.tasks.task import Task

TASKS = {task.name: task for task in GLUE}
COLA, RTE, STSB, QQP = (TASKS[n] for n in ("CoLA", "RTE", "STS-B", "QQP"))


def test_the_official_layouts_are_read() -> None:
    """Headers or none, class names as labels, quotation marks as text, real labels, torn rows of QQP passed over."""
    cola = parse_rows(COLA, Path("train.tsv"), b'gj04\t1\t\tSay "it.\r\nbc01\t0\t*\tIt say.\n')
    assert (cola.text_a, cola.labels.tolist()) == (('Say "it.', "It say."), [1, 0])
    rte = b"index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tnot_entailment\n1\tC.\tD.\tentailment\n"
    rows = parse_rows(RTE, Path("train.tsv"), rte)
    assert (rows.text_b, rows.labels.tolist()) == (("B.", "D."), [1, 0])
    sts = b"index\tgenre\tsentence1\tsentence2\tscore\n0\tx\tA.\tB.\t3.2\n"
    assert parse_rows(STSB, Path("dev.tsv"), sts).labels.tolist() == [3.2]
    whole = b"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n" + b"1\t2\t3\tA?\tB?\t1\n" * 2000
    assert len(parse_rows(QQP, Path("dev.tsv"), whole + b"1\t2\t3\tA?\n")) == 2000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text_a": "a"}\n', "label None"),
        (b'{"text_a": "a", "label": -1}\n', "label -1"),
        (b'{"text_a": "a", "label": 2}\n', "label 2"),
        (b'{"text_a": "a", "label": true}\n', "label True"),
        (b'{"text_a": "a", "label": "odd"}\n', "label 'odd'"),
        (b'{"text": "a", "label": 1}\n', "no text in column 'text_a'"),
        (b'{"text_a": null, "label": 1}\n', "no text"),
        (b"[1]\n", "not a JSON object"),
        (b'{"text_a": \n', "line 1 is not JSON"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"\n", "has no rows"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(content: bytes, message: str) -> None:
    """Each fault in a file is a DataError that names the file and a fix."""
    with pytest.raises(DataError, match=message) as caught:
        parse_rows(COLA, Path("folder/train.jsonl"), content)
    assert "folder/train.jsonl" in str(caught.value)
    assert caught.value.fix


def test_a_label_of_a_regression_must_be_a_number() -> None:
    """Neither words nor NaN are."""
    for label in ('"high"', "NaN", "null"):
        with pytest.raises(DataError, match="not a number"):
            parse_rows(STSB, Path("x.jsonl"), f'{{"text_a": "a", "text_b": "b", "label": {label}}}'.encode())


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"index\tsentence1\tlabel\n0\ta\tentailment\n", "no column 'sentence2'"), (b"a\tb\n", "no column")],
)
def test_a_wrong_header_is_named(content: bytes, message: str) -> None:
    """The missing column's name stands in the error."""
    with pytest.raises(DataError, match=message):
        parse_rows(RTE, Path("dev.tsv"), content)


def test_many_torn_rows_are_a_fault() -> None:
    """One in a thousand is passed over, one in two is not."""
    with pytest.raises(DataError, match="lack columns"):
        parse_rows(COLA, Path("train.tsv"), b"gj04\t1\t\tA.\nbc01\t0\n")


def jsonl(*records: dict) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in records).encode()


def test_test_files_are_read_without_labels() -> None:
    """The official test files have a header even for CoLA, and ids; JSON lines have `idx`."""
    rows = parse_rows(COLA, Path("test.tsv"), b"index\tsentence\n0\tIt is.\n1\tIs it.\n", labelled=False)
    assert (rows.text_a, rows.labels, rows.ids) == (("It is.", "Is it."), None, ("0", "1"))
    qqp = b"id\tquestion1\tquestion2\n7\tA?\tB?\n"
    assert parse_rows(QQP, Path("test.tsv"), qqp, labelled=False).ids == ("7",)
    lines = jsonl({"text_a": "a", "text_b": "b", "idx": 3})
    assert parse_rows(RTE, Path("test.jsonl"), lines, labelled=False).ids == ("3",)


def test_a_choice_has_its_options_and_the_number_of_one() -> None:
    """Two rows of four candidates; the label may be written as text."""
    rows = parse_rows(SWAG, Path("train.jsonl"), jsonl(
        {"text_a": "He sits.", "options": list("abcd"), "label": 2}, {"text_a": "She.", "options": list("wxyz"), "label": "0"},
    ))  # fmt: skip
    assert rows.options == (("a", "b", "c", "d"), ("w", "x", "y", "z"))
    assert (rows.labels.dtype, rows.labels.tolist(), rows.text_b) == (np.int64, [2, 0], None)


def test_a_tag_is_numbered_by_the_classes() -> None:
    """All words of all rows in one array."""
    task = replace(CONLL, classes=("B-PER", "I-PER", "O"))
    rows = parse_rows(task, Path("x.jsonl"), jsonl(
        {"words": ["Ann", "Lee", "sat"], "labels": ["B-PER", "I-PER", "O"]}, {"words": ["Yes"], "labels": ["O"]}
    ))  # fmt: skip
    assert rows.labels.tolist() == [0, 1, 2, 2]
    assert (rows.words, rows.text_a) == ((("Ann", "Lee", "sat"), ("Yes",)), ("Ann Lee sat", "Yes"))


def test_a_span_is_the_place_of_the_first_answer() -> None:
    """Characters of the context, first and one past the last; (-1, -1) and no answers where there is none."""
    rows = parse_rows(SQUAD_2, Path("x.jsonl"), jsonl(
        {"text_a": "Who?", "text_b": "It was Ann Lee.", "answers": [{"text": "Ann Lee", "start": 7}, {"text": "Lee", "start": 11}]},
        {"text_a": "When?", "text_b": "It was Ann.", "answers": []},
    ))  # fmt: skip
    assert rows.labels.tolist() == [[7, 14], [-1, -1]]
    assert rows.answers == (("Ann Lee", "Lee"), ())


@pytest.mark.parametrize(
    ("task", "record", "message"),
    [
        (SWAG, {"text_a": "a", "options": ["b", "c"], "label": 0}, "2 options"),
        (SWAG, {"text_a": "a", "options": "bcde", "label": 0}, "no list in column 'options'"),
        (SWAG, {"text_a": "a", "options": list("bcde"), "label": 4}, "label 4"),
        (SWAG, {"sent1": "a"}, "no row of SWAG: KeyError"),
        (CONLL, {"words": ["a", "b"], "labels": ["O"]}, "differ in number"),
        (CONLL, {"words": [], "labels": []}, "no list in column 'words'"),
        (SQUAD_2, {"text_a": "a", "text_b": "b", "answers": None}, "no list in column 'answers'"),
        (
            SQUAD_2,
            {"text_a": "a", "text_b": "b", "answers": [{"text": "c", "start": 0}]},
            "does not hold the answer 'c'",
        ),
        (SQUAD_2, {"text_a": "a", "text_b": "b", "answers": [{"text": "b"}]}, "no place"),
        (COLA, {"text_a": "\ud800", "label": 0}, "lone surrogate"),
    ],
)
def test_each_kind_checks_what_it_has(task: Task, record: dict, message: str) -> None:
    """What a kind needs is asked for in every row, and the error names the line."""
    with pytest.raises(DataError, match=message) as caught:
        parse_rows(task, Path("x.jsonl"), jsonl(record))
    assert "line 1" in caught.value.where


@pytest.mark.parametrize("task", [AX_G, next(t for t in SUPERGLUE if t.name == "MultiRC")])
def test_rows_that_are_scored_together_need_a_group(task: Task) -> None:
    """Every labelled row, since one without would leave the metric without an answer; the fix names the field."""
    row = {"text_a": "a", "text_b": "b", "label": 0}
    whole = jsonl({**row, "group": "0"}, {**row, "group": 0})
    assert parse_rows(task, Path("dev.jsonl"), whole).groups == ("0", "0")
    for rows in ((row, row), ({**row, "group": 1}, row), ({**row, "group": 1}, {**row, "group": None})):
        with pytest.raises(DataError, match="scored by groups") as caught:
            parse_rows(task, Path("dev.jsonl"), jsonl(*rows))
        assert "text_b, label and group" in caught.value.fix
    assert parse_rows(task, Path("test.jsonl"), jsonl(row), labelled=False).groups is None
    assert "group" not in layout(RTE)
