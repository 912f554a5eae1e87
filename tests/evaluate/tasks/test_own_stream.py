"""Rows of a file, read a part at a time."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate.tasks.own_stream import TextRow, stream_texts, unlabelled_parts
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
    assert [row.texts for row in stream_texts(table, {"--text b": "b", "--text a": "a"})] == [(b, a) for a, b in ROWS]


def test_rows_come_in_parts(table):
    """The last part may be smaller."""
    parts = [part.rows for part in unlabelled_parts(TWO, table, ("a", "b"), 3)]
    assert [len(part) for part in parts] == [3, 3, 1] and all(part.labels is None for part in parts)
    assert [pair for part in parts for pair in zip(part.text_a, part.text_b, strict=True)] == ROWS


def test_a_part_is_given_before_the_file_is_read_to_its_end(tmp_path):
    """What is wrong further down is found when it is reached, and what is before it is not held."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "x"}\n' * 5 + "torn")
    parts = unlabelled_parts(ONE, path, ("a",), 2)
    assert [len(next(parts).rows), len(next(parts).rows)] == [2, 2]
    with pytest.raises(DataError, match="line 6 is not JSON"):
        next(parts)


def test_a_txt_has_one_text_a_line(tmp_path):
    """Blank lines are passed over; two texts a row need a table."""
    path = tmp_path / "rows.txt"
    path.write_text("\ufeffone\n\n  two \r\n")
    assert list(stream_texts(path, {"--text a": "a"})) == [TextRow(1, ("one",)), TextRow(3, ("two",))]
    with pytest.raises(UsageError, match="one text a line"):
        list(unlabelled_parts(TWO, path, ("a", "b"), 2))


def test_a_column_that_is_not_there_is_named(table):
    """With the nearest that is."""
    with pytest.raises(UsageError, match="no column 'aa'"):
        list(stream_texts(table, {"--text aa": "aa"}))


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("rows.csv", 'a\n""\n""\n', "none of the 2 rows has a text"),
        ("rows.csv", "a,b\nx,y\nz\n", "1 columns"),
        ("rows.csv", "a\n", "no rows"),
        ("rows.jsonl", '{"a": ""}\n{"b": "x"}\n', "none of the 2 rows has a text"),
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
    parts = unlabelled_parts(tagging, words, (), 1)
    assert [part.rows.words for part in parts] == [(("the", "fox"),), (("it", "runs"),)]
    (part,) = unlabelled_parts(Task(name="c", suite="own", kind="choice", options=2), choices, (), 5)
    assert part.rows.options == (("a", "b"),)


def test_rows_keep_what_their_file_calls_them(tmp_path):
    """In every format; a row that has none is called nothing, and a list is no name."""
    (tmp_path / "rows.csv").write_text("a,id\nx,7\ny,\n")
    (tmp_path / "rows.jsonl").write_text('{"a": "x", "ids": 7}\n{"a": "y", "ids": [1]}\n')
    pq.write_table(pa.table({"idx": [7, None], "a": ["x", "y"]}), tmp_path / "rows.parquet")
    for file in ("rows.csv", "rows.parquet", "rows.jsonl"):
        (part,) = unlabelled_parts(ONE, tmp_path / file, ("a",), 5)
        assert (part.rows.ids, part.rows.text_a) == (("7", ""), ("x", "y")), file


def test_a_column_of_lists_is_no_column_of_ids(tmp_path):
    """In a parquet file as in JSON lines: the rows are answered, and have no names."""
    pq.write_table(pa.table({"idx": [[7, 8], [9]], "a": ["x", "y"]}), tmp_path / "rows.parquet")
    (part,) = unlabelled_parts(ONE, tmp_path / "rows.parquet", ("a",), 5)
    assert part.rows.ids is None and part.rows.text_a == ("x", "y")


def test_a_column_of_texts_is_no_column_of_ids(tmp_path):
    """Whatever it is called; nor has a file without one any."""
    (tmp_path / "rows.csv").write_text("id,a\nx,1\n")
    (part,) = unlabelled_parts(ONE, tmp_path / "rows.csv", ("id",), 5)
    assert part.rows.ids is None and part.rows.text_a == ("x",)


def test_rows_without_a_text_are_named_by_their_lines(tmp_path):
    """They stand among the others, so that answers are counted as rows are; one of two texts is not enough."""
    path = tmp_path / "rows.csv"
    path.write_text("a,b\nx,y\n,y\nx,\nx,y\n")
    first, second = unlabelled_parts(TWO, path, ("a", "b"), 3)
    assert (len(first.rows), first.empty, second.empty) == (3, {1: 3, 2: 4}, {})


def test_a_column_that_the_model_needs_is_said_with_those_that_there_are(tmp_path):
    """Nobody named it: the fix is to name one."""
    path = tmp_path / "rows.csv"
    path.write_text("text,stars\nx,1\n")
    with pytest.raises(UsageError, match="no column 'review'; it has text, stars") as refused:
        list(unlabelled_parts(ONE, path, ("review",), 5, named=False))
    assert "fine-tuned on column 'review'" in refused.value.where and "--text COLUMN" in refused.value.fix


def test_the_row_of_a_parquet_file_is_counted_from_one(tmp_path):
    """As its first row is row 1, and said to be a row."""
    pq.write_table(pa.table({"a": ["x", None, "z"]}), tmp_path / "rows.parquet")
    (part,) = unlabelled_parts(ONE, tmp_path / "rows.parquet", ("a",), 5)
    assert (part.empty, part.unit) == ({1: 2}, "row")


def test_a_line_of_json_may_lack_its_text_like_any_other(tmp_path):
    """Be it the first one; a column that no line has is a slip of its name."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n{"id": 2, "a": "x"}\n')
    (part,) = unlabelled_parts(ONE, path, ("a",), 5)
    assert part.empty == {0: 1} and part.rows.text_a == ("", "x") and part.rows.ids == ("1", "2")
    with pytest.raises(UsageError, match="no column 'b'; it has id, a"):
        list(unlabelled_parts(ONE, path, ("b",), 5))


@pytest.mark.parametrize(
    ("task", "lines", "whole"),
    [
        (Task(name="t", suite="own", kind="tagging", classes=("O", "X")), ['{"words": []}', '{"words": [" "]}', "{}"],
         '{"words": ["a", ""], "id": 7}'),
        (Task(name="s", suite="own", kind="span"), ['{"text_a": "", "text_b": "x"}', '{"text_a": "x", "text_b": null}', "{}"],
         '{"text_a": "who", "text_b": "x", "id": 7}'),
        (Task(name="c", suite="own", kind="choice", options=2), ['{"text_a": "x", "options": ["a", ""]}',
         '{"text_a": " ", "options": ["a", "b"]}', '{"text_a": "x", "options": []}'],
         '{"text_a": "x", "options": ["a", "b"], "id": 7}'),
    ],
)  # fmt: skip
def test_words_questions_and_options_may_be_empty_in_a_row(tmp_path, task, lines, whole):
    """They stand among the others, whichever part they fall into; alone they are refused."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([lines[0], whole, *lines[1:]]))
    first, second = unlabelled_parts(task, path, (), 3)
    assert (first.empty, second.empty, first.unit) == ({0: 1, 2: 3}, {0: 4}, "line")
    assert (len(first.rows), first.rows.ids, second.rows.ids) == (3, ("", "7", ""), ("",))
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match="none of the 3 rows has a text") as refused:
        list(unlabelled_parts(task, path, (), 3))
    assert refused.value.where.endswith("rows.jsonl, line 1")
