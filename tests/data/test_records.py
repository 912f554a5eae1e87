import io
import itertools
import json
from pathlib import Path
from typing import BinaryIO

import pytest

from gpuday.core.errors import DataError
from gpuday.data import records
from gpuday.data.document import DropCounter
from gpuday.data.records import LineTally, Separator, read_csv, read_jsonl, read_text

GOOD = [json.dumps({"text": f"document {i}"}).encode() for i in range(1000)]


def tally(drops: DropCounter | None = None) -> LineTally:
    return LineTally(Path("corpus.x"), drops or DropCounter())


@pytest.mark.parametrize(
    ("separator", "expected"),
    [
        ("file", [(0, "a\nb\n\n\nc")]),
        ("line", [(0, "a"), (1, "b"), (4, "c")]),
        ("blank", [(0, "a\nb"), (2, "c")]),
    ],
)
def test_documents_of_a_text_file(separator: Separator, expected: list[tuple[int, str]]) -> None:
    """The three ways to separate documents, by hand; line ends of Windows and a byte-order mark are removed."""
    stream = io.BytesIO(b"\xef\xbb\xbfa\r\nb\r\n\r\n\r\nc")
    assert list(read_text(stream, tally(), separator)) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "\xff"}', "invalid UTF-8"),
        (b'{"text": ', "invalid JSON"),
        (b'{"text": 1' + b"0" * 5000 + b"}", "invalid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'"text"', "not a JSON object"),
        (b'{"body": "x"}', "no field 'text'"),
        (b'{"text": 3}', "field 'text' is not a string"),
        (b'{"text": "a\\ud800b"}', "lone surrogate"),
        (b'{"text": "a\\u0000b"}', "NUL character"),
        (b'{"text": "' + b"x" * (16 << 20) + b'"}', "line over 16 MiB"),
    ],
)
def test_a_bad_json_line_is_counted_and_skipped(line: bytes, reason: str) -> None:
    """Each fault has its reason, and costs only its own line."""
    drops = DropCounter()
    stream = io.BytesIO(b"\n".join([*GOOD, line, b'{"text": "last"}']))
    lines = tally(drops)
    assert [t for _, t in read_jsonl(stream, lines)] == [f"document {i}" for i in range(1000)] + ["last"]
    lines.check()
    assert list(drops) == [("read", reason, 1)]


@pytest.mark.parametrize(("line", "reason"), [(b"a\xffb", "invalid UTF-8"), (b"a\0b", "NUL character")])
def test_a_bad_text_line_is_counted_and_skipped(line: bytes, reason: str) -> None:
    """The rest of its document stays."""
    drops = DropCounter()
    stream = io.BytesIO(b"first\n" + line + b"\nthird\n")
    assert list(read_text(stream, tally(drops), "blank")) == [(0, "first\nthird")]
    assert list(drops) == [("read", reason, 1)]


@pytest.mark.parametrize(("bad", "refused"), [(10, False), (11, True)])
def test_a_file_is_refused_above_one_bad_line_in_a_hundred(bad: int, refused: bool) -> None:
    """At exactly 1% it is read; above, the error names file, counts and reasons."""
    lines = tally()
    stream = io.BytesIO(b"\n".join(GOOD[: 1000 - bad] + [b"no json"] * bad))
    assert len(list(read_jsonl(stream, lines))) == 1000 - bad
    if refused:
        with pytest.raises(DataError, match=r"corpus\.x: 11 of 1,000 lines cannot be used \(invalid JSON: 11\)"):
            lines.check()
    else:
        lines.check()


def test_a_long_file_of_the_wrong_kind_is_refused_early() -> None:
    """A binary file is not read to its end to find that every line is bad."""
    stream = io.BytesIO(b"\xff\xfe\n" * 1_000_000)
    with pytest.raises(DataError, match="invalid UTF-8"):
        list(read_jsonl(stream, tally()))
    assert stream.tell() < 100_000


def test_an_endless_document_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without any separator is never held whole, and its pieces share a number."""
    monkeypatch.setattr(records, "MAX_PIECE_BYTES", 10)
    assert list(read_text(io.BytesIO(b"12345\n67890\nabc\n\nd"), tally(), "blank")) == [
        (0, "12345\n67890"),
        (0, "abc"),
        (1, "d"),
    ]


def test_a_stream_is_read_only_as_far_as_it_is_asked_for() -> None:
    """The first documents of a file of any size cost a few reads."""

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, target: memoryview) -> int:  # type: ignore[override]
            target[:] = (b"word\n\n" * (len(target) // 6 + 1))[: len(target)]
            return len(target)

    stream: BinaryIO = io.BufferedReader(Endless())
    assert [t for _, t in itertools.islice(read_text(stream, tally(), "blank"), 5)] == ["word"] * 5


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("id,text", '1,"a, ""b""\nc"', 'a, "b"\nc'),
        ("body", "hello", "hello"),
        ("id,body", "7,hello there", "hello there"),
    ],
)
def test_the_text_column_of_a_csv_file(header: str, row: str, expected: str) -> None:
    """The column called text, the only column, or the only one that holds no numbers; quotes and line breaks inside."""
    stream = io.BytesIO(f"{header}\n{row}\n".encode())
    assert [t for _, t in read_csv(stream, tally(), ",")] == [expected]


def test_an_unclear_csv_column_is_refused() -> None:
    """The error lists the columns."""
    with pytest.raises(DataError, match=r"title, body"):
        list(read_csv(io.BytesIO(b"title,body\na,b\n"), tally(), ","))


@pytest.mark.parametrize(
    ("line", "reason"),
    [(b"1\t\xff", "invalid UTF-8"), (b"1", "not 2 columns"), (b'1\t"a"b', "invalid CSV ('\t' expected after '\"')")],
)
def test_a_bad_csv_row_is_counted_and_skipped(line: bytes, reason: str) -> None:
    """Rows before and after it are read."""
    drops = DropCounter()
    stream = io.BytesIO(b"id\ttext\n1\tfirst\n" + line + b"\n2\tlast\n")
    assert [t for _, t in read_csv(stream, tally(drops), "\t")] == ["first", "last"]
    assert list(drops) == [("read", reason, 1)]


def test_a_carriage_return_alone_ends_a_line() -> None:
    """As old files have it, beside the other two line ends."""
    assert list(read_text(io.BytesIO(b"a\rb\r\rc\r\nd\n"), tally(), "blank")) == [(0, "a\nb"), (1, "c\nd")]
    assert list(read_csv(io.BytesIO(b"text,n\ra,1\rb,2\r"), tally(), ",")) == [(1, "a"), (2, "b")]


def test_a_row_that_an_open_quote_makes_endless_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its cells is short, and only their sum says that something is wrong."""
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 100)
    drops = DropCounter()
    rows = b"text,n\n" + b"a,1\n" * 5000 + b'"x\n' + b'","y\n' * 20
    found = list(read_csv(io.BytesIO(rows), tally(drops), ","))
    assert len(found) >= 5000
    assert drops.count("read", "invalid CSV (row over 16 MiB)") > 0


def test_a_long_value_is_cut_at_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or inside a word that is longer than a piece; what is a quarter over stays whole."""
    monkeypatch.setattr(records, "MAX_PIECE_BYTES", 8)
    lines = [b'{"text": "one two three"}\n', b'{"text": "one two th"}\n', b'{"text": "onetwothreefour"}\n']
    found = list(read_jsonl(io.BytesIO(b"".join(lines)), tally()))
    assert found == [(0, "one two"), (0, "three"), (1, "one two th"), (2, "onetwoth"), (2, "reefour")]


def test_several_returns_before_a_line_feed_end_one_line() -> None:
    """As files have it that were converted to Windows twice: no blank line stands between their lines."""
    raw = b"a\r\r\nb\r\r\n\r\r\nc\r\r\r\nd"
    assert list(read_text(io.BytesIO(raw), tally(), "blank")) == [(0, "a\nb"), (1, "c\nd")]
    assert list(read_text(io.BytesIO(raw), tally(), "line")) == [(0, "a"), (1, "b"), (3, "c"), (4, "d")]


def test_a_csv_file_of_returns_may_end_without_one() -> None:
    """Its last line of one character is a row."""
    assert list(read_csv(io.BytesIO(b"text\rx"), tally(), ",")) == [(1, "x")]


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\n", b""])
def test_a_file_of_returns_may_have_any_size(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    """It is one line for whoever looks for line feeds; what is too long between two returns is skipped alone."""
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 100)
    words = [b"word %d" % i for i in range(200)]
    drops = DropCounter()
    lines = tally(drops)
    raw = b"\r".join([*words, b"x" * 1000, *words]) + end + b"last"
    found = [text for _, text in read_text(io.BytesIO(raw), lines, "line")]
    expected = [word.decode() for word in [*words, *words]]
    assert found == [*expected, "last"] if end else [*expected[:-1], "word 199last"]
    assert list(drops) == [("read", "line over 16 MiB", 1)]
    assert lines.lines == 402 - (not end)


def test_the_fix_for_lines_that_are_too_long_is_to_break_them() -> None:
    """They are UTF-8 text as they should be."""
    lines = tally()
    list(read_text(io.BytesIO(b"x" * (17 << 20)), lines, "blank"))
    with pytest.raises(DataError, match="line over 16 MiB: 1") as caught:
        lines.check()
    assert caught.value.fix.startswith("break its lines")
