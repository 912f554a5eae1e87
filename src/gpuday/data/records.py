"""Texts from open streams: txt, jsonl, csv and parquet. A bad line is counted with its reason and skipped.

Every reader yields (document number, text): pieces of one over-long document share their number. Lines end with LF, CR
LF, or CR alone; jsonl knows the first two.
"""

import csv
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, Literal

from gpuday.core.errors import DataError
from gpuday.data.document import Drop, DropCounter
from gpuday.data.streams import DecodedLimit, check_regular

Separator = Literal["file", "line", "blank"]
Texts = Iterator[tuple[int, str]]

MAX_LINE_BYTES = 16 << 20
MAX_PIECE_BYTES = 4 << 20  # longer documents are cut, so that memory stays flat: at a line's end, a space, or anywhere
MAX_BAD_SHARE = 0.01
_EARLY_LINES = 10_000  # from here on a file that is bad for the most part is refused without reading it to its end
_EARLY_SHARE = 0.5
_LONG_LINE = "line over 16 MiB"
_TEXT = "text"
_SHOWN = 8  # columns in an error, each with so many characters
_SHOWN_CHARACTERS = 40


class LineTally:
    """Lines read and lines dropped in one file; raises DataError when more than 1% were dropped."""

    def __init__(self, path: Path, drops: DropCounter) -> None:
        self.path, self.lines, self._drops = path, 0, drops
        self._bad: dict[str, int] = {}

    def bad(self, reason: str, sample: str | bytes, *, times: int = 1) -> None:
        """Book a bad line."""
        text = sample if isinstance(sample, str) else sample[:1000].decode("utf-8", "backslashreplace")
        self._drops.add("read", Drop(reason, text), times=times)
        self._bad[reason] = self._bad.get(reason, 0) + times
        if self.lines >= _EARLY_LINES:
            self.check(_EARLY_SHARE)

    def check(self, share: float = MAX_BAD_SHARE) -> None:
        """Raise DataError if more than that share of the lines so far is bad; called with 1% when all are read."""
        total = sum(self._bad.values())
        if total > share * self.lines:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(self._bad.items()))
            fix = "convert the file to UTF-8 text of the format that its name says, or leave it out"
            if max(self._bad, key=lambda reason: self._bad[reason]) == _LONG_LINE:
                fix = f"break its lines: none may have more than {MAX_LINE_BYTES >> 20} MiB"
            raise DataError(f"{self.path}: {total:,} of {self.lines:,} lines cannot be used ({reasons})", fix=fix)


def read_text(stream: BinaryIO, tally: LineTally, separator: Separator) -> Texts:
    """Documents of a txt file: the file, its lines, or what blank lines separate."""
    number, size = 0, 0
    held: list[bytes] = []
    for line in _split_at_returns(_lines(stream, tally, returns=True), tally):
        blank = not line.strip()
        if not blank or separator == "file":
            held.append(line)
            size += len(line)
        ends = separator == "line" or (separator == "blank" and blank)
        if held and (ends or size >= MAX_PIECE_BYTES):
            yield from _pieces(number, _decode(held, tally))
            held, size = [], 0
        number += ends
    if held:
        yield from _pieces(number, _decode(held, tally))


def read_jsonl(stream: BinaryIO, tally: LineTally) -> Texts:
    """The `text` field of every line. Parsed by the standard library: pyarrow's reader crashes on deep nesting."""
    for number, line in enumerate(_lines(stream, tally)):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
        except UnicodeDecodeError:
            tally.bad("invalid UTF-8", line)
            continue
        except RecursionError:
            tally.bad("nested too deeply", line)
            continue
        except ValueError:
            tally.bad("invalid JSON", line)
            continue
        if not isinstance(row, dict):
            tally.bad("not a JSON object", line)
        elif _TEXT not in row:
            tally.bad("no field 'text'", line)
        elif not isinstance(row[_TEXT], str):
            tally.bad("field 'text' is not a string", line)
        elif reason := _fault(row[_TEXT]):
            tally.bad(reason, line)
        else:
            yield from _pieces(number, row[_TEXT])


def read_csv(stream: BinaryIO, tally: LineTally, delimiter: str) -> Texts:
    """The column `text`, or the only column that holds text. Raises DataError when the column is not clear."""
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = _RowLines(_split_at_returns(_lines(stream, tally, returns=True), tally))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise DataError(f"{tally.path} has no CSV header: {error}", fix="name the columns in the first line") from error
    if not header:
        return
    column: int | None = header.index(_TEXT) if _TEXT in header else (0 if len(header) == 1 else None)
    number, before = 0, reader.line_num
    while True:
        lines.begin_row()
        try:
            row = next(reader, None)
        except csv.Error as error:
            tally.bad(f"invalid CSV ({error})", "", times=max(1, reader.line_num - before))
            before = reader.line_num
            continue
        if row is None:
            return
        lines_used, before = reader.line_num - before, reader.line_num
        number += 1
        if not row:
            continue
        if len(row) != len(header):
            tally.bad(f"not {len(header)} columns", delimiter.join(row[:_SHOWN]), times=lines_used)
            continue
        if column is None:
            column = _only_text_column(header, row, tally.path)
        if reason := _fault(row[column]):
            tally.bad("invalid UTF-8" if reason == "lone surrogate" else reason, row[column], times=lines_used)
        else:
            yield from _pieces(number, row[column])


class _RowLines:
    """Lines for the csv reader; a row that takes more than 16 MiB of them is an error of that row.

    An open quotation mark makes one row of all the rest.
    """

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines, self._size = lines, 0

    def begin_row(self) -> None:
        self._size = 0

    def __iter__(self) -> "_RowLines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._size += len(line)
        if self._size > MAX_LINE_BYTES:
            raise csv.Error("row over 16 MiB")
        return line.decode("utf-8", "surrogateescape")


def read_parquet(path: Path, tally: LineTally) -> Texts:
    """The column `text`, decoded in another process: a native crash there becomes a DataError here."""
    return _from_worker(path, tally, "text", _TEXT)


def read_column(path: Path, tally: LineTally, column: str) -> Texts:
    """A column of a parquet file, whatever its kind, as text; a null is empty."""
    return _from_worker(path, tally, "any", column)


def column_names(path: Path, *, flat: bool = False) -> list[str]:
    """The columns of a parquet file; with `flat` only those of single values, not of lists, maps or structures."""
    return [name for _, name in _from_worker(path, LineTally(path, DropCounter()), "flat" if flat else "names")]


def _from_worker(path: Path, tally: LineTally, *arguments: str) -> Texts:
    """What `parquet_worker` writes for these arguments."""
    limit = DecodedLimit(path, check_regular(path).st_size)
    worker = Path(__file__).with_name("parquet_worker.py")
    # -P: the worker's own folder must not stand in front of the libraries that it imports.
    command = [sys.executable, "-P", str(worker), os.fspath(path.absolute()), *arguments]
    with (
        tempfile.TemporaryFile() as faults,  # a pipe that nobody reads would stop a worker that says much
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=faults) as process,
    ):
        assert process.stdout is not None
        finished = False
        try:
            yield from read_values(process.stdout, tally, limit)
            finished = True
        finally:
            if not finished:  # the caller stopped reading, or a cap was hit
                process.kill()
        process.wait()
        faults.seek(0)
        message = faults.read(2000).decode("utf-8", "replace").strip()
    if process.returncode != 0:
        how = f"the reader was killed by signal {-process.returncode}" if process.returncode < 0 else message
        raise DataError(f"{path} cannot be read as parquet: {how}", fix="the file is damaged or not parquet")


def read_values(stream: IO[bytes], tally: LineTally, limit: DecodedLimit) -> Texts:
    """Texts as `parquet_worker` writes them; ends where the stream does, be it inside a value."""
    number = 0
    while len(head := stream.read(8)) == 8:
        (length,) = struct.unpack("<q", head)
        tally.lines += 1
        number += 1
        limit.add(max(length, 0))
        if length > MAX_LINE_BYTES:
            tally.bad("value over 16 MiB", stream.read(1000))
            length -= 1000
            while length > 0 and (skipped := stream.read(min(length, MAX_PIECE_BYTES))):
                length -= len(skipped)
            continue
        raw = stream.read(length) if length > 0 else b""
        if len(raw) < length:
            return  # the worker died; its exit status says how
        yield from _pieces(number, _decode([raw], tally))


def _lines(stream: BinaryIO, tally: LineTally, *, returns: bool = False) -> Iterator[bytes]:
    """Lines that end with LF. With `returns`, what is too long comes in parts that end with CR, where it has any."""
    first, rest = True, b""
    while line := rest if rest.endswith(b"\n") else rest + stream.readline(MAX_LINE_BYTES + 1 - len(rest)):
        rest = b""
        tally.lines += 1
        if len(line) > MAX_LINE_BYTES:
            cut = line.rstrip(b"\r\n").rfind(b"\r") + 1 if returns else 0
            if not cut:
                tally.bad(_LONG_LINE, line[:1000])
                rest = _pass_over(stream, line, returns=returns)
                continue
            line, rest = line[:cut], line[cut:]
        if first:
            line, first = line.removeprefix(b"\xef\xbb\xbf"), False
        yield line


def _pass_over(stream: BinaryIO, line: bytes, *, returns: bool) -> bytes:
    """Read to the end of a line that is too long; what was read of the next one."""
    ends = (b"\n", b"\r") if returns else b"\n"
    while line and not line.endswith(ends):
        line = stream.readline(MAX_LINE_BYTES)
        if returns and (end := line.find(b"\r") + 1):
            return line[end:].removeprefix(b"\n")
    return b""


def _split_at_returns(lines: Iterable[bytes], tally: LineTally) -> Iterator[bytes]:
    """The lines of text whose lines may also end with CR alone. Several CR before LF end one line: so does a file that was
    converted to the line ends of Windows twice."""
    for line in lines:
        if b"\r" not in line:
            yield line
            continue
        if line.endswith(b"\r\r\n"):
            line = line.rstrip(b"\r\n") + b"\r\n"
        parts = line.splitlines(keepends=True)
        tally.lines += len(parts) - 1
        yield from parts


def _pieces(number: int, text: str) -> Texts:
    """The text, cut where it is longer than a piece and a quarter; inside a word only where there is no space."""
    start, size = 0, MAX_PIECE_BYTES
    while len(text) - start > size + size // 4:
        end = start + size
        cut = text.rfind("\n", start + size // 2, end) + 1 or text.rfind(" ", start + size // 2, end) + 1 or end
        yield number, text[start:cut].strip()
        start = cut
    yield number, text[start:].strip() if start else text


def _decode(lines: list[bytes], tally: LineTally) -> str:
    raw = b"".join(lines)
    if b"\0" not in raw:
        try:
            return _with_newlines(raw.decode())
        except UnicodeDecodeError:
            pass  # found and counted line by line below
    kept = []
    for line in lines:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            tally.bad("invalid UTF-8", line)
            continue
        if "\0" in text:
            tally.bad("NUL character", line)
        else:
            kept.append(text)
    return _with_newlines("".join(kept))


def _with_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _fault(text: str) -> str | None:
    if "\0" in text:
        return "NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "lone surrogate"
    return None


def _only_text_column(header: list[str], row: list[str], path: Path) -> int:
    def is_number(value: str) -> bool:
        try:
            float(value[:400] or "0")
        except ValueError:
            return False
        return True

    texts = [i for i, value in enumerate(row) if not is_number(value)]
    if len(texts) != 1:
        shown = ", ".join(name[:_SHOWN_CHARACTERS] for name in header[:_SHOWN])
        more = f" and {len(header) - _SHOWN:,} more" if len(header) > _SHOWN else ""
        raise DataError(
            f"{path} has no column 'text', and {len(texts):,} of its columns ({shown}{more}) hold text",
            fix="rename the column to 'text'",
        )
    return texts[0]
