from pathlib import Path

import pytest

from gpuday.core.errors import DataError
from gpuday.evaluate.tasks.tables import csv_records, json_records, tsv_records, unpacked
from gpuday.evaluate.tasks.task import Tsv

CSV = Path("x.csv")


def test_a_csv_row_may_hold_quotes_and_line_ends() -> None:
    """RFC 4180: a doubled quotation mark is one, a quoted line end is text; the number is that of the row's first line."""
    rows = list(csv_records(CSV, b'a,b\r\n1,"x, ""y""\nz"\r\n2,w\r\n'))
    assert rows == [(2, {"a": "1", "b": 'x, "y"\nz'}), (4, {"a": "2", "b": "w"})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1\n", "line 2 has 1 columns, the first line 2"),
        (b'a,b\n1,"x\n3,4\n', "the row from line 2 on is not CSV"),
        (b"a,a\n1,2\n", "two columns have one name"),
        (b"a\n\xff\n", "not UTF-8"),
    ],
)
def test_a_csv_file_that_is_none_is_refused(content: bytes, message: str) -> None:
    """No row of a task is passed over in silence."""
    with pytest.raises(DataError, match=message):
        list(csv_records(CSV, content))


def test_a_quotation_mark_of_glue_is_text() -> None:
    """Its tables know no quoting."""
    found = list(tsv_records(Tsv(text_a="sentence"), Path("x.tsv"), b'sentence\tlabel\n"So\t1\n'))
    assert found == [(2, {"sentence": '"So', "label": "1"})]


def test_json_lines_keep_their_numbers() -> None:
    """A blank line counts, though it holds nothing."""
    assert list(json_records(Path("x.jsonl"), b'{"a": 1}\n\n{"a": 2}\n')) == [(1, {"a": 1}), (3, {"a": 2})]


def test_a_file_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap is told, not memory spent."""
    import gzip

    monkeypatch.setattr("gpuday.evaluate.tasks.tables.MAX_BYTES", 100)
    assert unpacked(Path("x.jsonl.gz"), gzip.compress(b"a" * 100)) == b"a" * 100
    with pytest.raises(DataError, match="more than 100 bytes"):
        unpacked(Path("x.jsonl.gz"), gzip.compress(b"a" * 101))
