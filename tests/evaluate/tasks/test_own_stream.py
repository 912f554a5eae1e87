"""Rows of a file, read a part at a time."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate.tasks.own_stream import stream_texts, unlabelled_parts
from gpuday.evaluate.tasks.task import Task

ROWS = [(f"text {i}, quoted", f"second\n{i}") for i in range(7)]
ONE = Task(name="mood", suite="own", classes=("bad", "good"))
TWO = Task(name="same", suite="own", classes=("no", "yes"), pair=True)


def quoted(a, b, separator):
    return f'"{a}"{separator}"{b}"'


@pytest.fixture(params=[".csv", ".tsv", ".jsonl", ".jsonl.gz", ".parquet"])
def table(request, tmp_path):
    """The same rows in every format."""
    path = tmp_path / f"rows{request.param}"
    if request.param == ".parquet":
        pq.write_table(pa.table({"a": [a for a, _ in ROWS], "b": [b for _, b in ROWS]}), path)
    elif "jsonl" in request.param:
        content = "".join(json.dumps({"a": a, "b": b}) + "\n" for a, b in ROWS).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    else:
        separator = "," if request.param == ".csv" else "\t"
        path.write_text("\n".join([f"a{separator}b", *(quoted(a, b, separator) for a, b in ROWS)]) + "\n")
    return path


def test_every_format_gives_the_same_rows(table):
    """Columns in the order that they were asked in, whatever they are in the file."""
    assert list(stream_texts(table, {"--text b": "b", "--text a": "a"})) == [(b, a) for a, b in ROWS]


def test_rows_come_in_parts(table):
    """The last part may be smaller."""
    parts = list(unlabelled_parts(TWO, table, ("a", "b"), 3))
    assert [len(part) for part in parts] == [3, 3, 1] and all(part.labels is None for part in parts)
    assert [pair for part in parts for pair in zip(part.text_a, part.text_b, strict=True)] == ROWS


def test_a_part_is_given_before_the_file_is_read_to_its_end(tmp_path):
    """What is wrong further down is found when it is reached, and what is before it is not held."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "x"}\n' * 5 + "torn")
    parts = unlabelled_parts(ONE, path, ("a",), 2)
    assert [len(next(parts)), len(next(parts))] == [2, 2]
    with pytest.raises(DataError, match="line 6 is not JSON"):
        next(parts)


def test_a_txt_has_one_text_a_line(tmp_path):
    """Blank lines are passed over; two texts a row need a table."""
    path = tmp_path / "rows.txt"
    path.write_text("\ufeffone\n\n  two \r\n")
    assert list(stream_texts(path, {"--text a": "a"})) == [("one",), ("two",)]
    with pytest.raises(UsageError, match="one text a line"):
        list(unlabelled_parts(TWO, path, ("a", "b"), 2))


def test_a_column_that_is_not_there_is_named(table):
    """With the nearest that is."""
    with pytest.raises(UsageError, match="no column 'aa'"):
        list(stream_texts(table, {"--text aa": "aa"}))


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("rows.csv", 'a\nx\n""\n', "no text"),
        ("rows.csv", "a,b\nx,y\nz\n", "1 columns"),
        ("rows.csv", "a\n", "no rows"),
        ("rows.jsonl", '{"a": "x"}\n{"b": "x"}\n', "no text"),
        ("rows.jsonl", '{"a": ["x"]}\n', "holds a list"),
        ("rows.jsonl", '{"a": "\\ud800"}\n', "lone surrogate"),
        ("rows.jsonl", "", "no rows"),
        ("rows.docx", "x", "no known kind"),
        ("rows.json", "[]", "no table"),
        ("rows.parquet", "PAR1", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(name, content, wrong, tmp_path):
    """With the file and the line."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=wrong) as error:
        list(stream_texts(path, {"--text a": "a"}))
    assert name in error.value.where + error.value.what


def test_the_number_of_columns_is_that_of_the_task(tmp_path):
    """One text or two; none for rows that name no columns."""
    path = tmp_path / "rows.txt"
    path.write_text("one\n")
    for task, columns in ((ONE, ("a", "b")), (TWO, ("a",)), (Task(name="t", suite="own", kind="tagging"), ("a",))):
        with pytest.raises(UsageError, match="text"):
            list(unlabelled_parts(task, path, columns, 2))


def test_tagged_words_and_choices_are_read_in_their_own_layouts(tmp_path):
    """Words a line without tags; options as a list."""
    words, choices = tmp_path / "words.conll", tmp_path / "rows.jsonl"
    words.write_text("the\nfox\n\nit\nruns\n")
    choices.write_text('{"text_a": "x", "options": ["a", "b"]}\n')
    tagging = Task(name="t", suite="own", kind="tagging", classes=("O", "B-X"))
    assert [part.words for part in unlabelled_parts(tagging, words, (), 1)] == [(("the", "fox"),), (("it", "runs"),)]
    (part,) = unlabelled_parts(Task(name="c", suite="own", kind="choice", options=2), choices, (), 5)
    assert part.options == (("a", "b"),)
