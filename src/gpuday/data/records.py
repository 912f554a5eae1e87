"""Texts from open streams: txt, jsonl, csv and parquet. A bad line is counted with its reason and skipped.

Every reader yields (document number, text): pieces of one over-long document share their number.
"""

import csv
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from gpuday.core.errors import DataError
from gpuday.data.document import Drop, DropCounter
from gpuday.data.streams import DecodedLimit, check_regular

Separator = Literal["file", "line", "blank"]
Texts = Iterator[tuple[int, str]]

MAX_LINE_BYTES = 16 << 20
MAX_PIECE_BYTES = 4 << 20  # longer documents are cut at line borders, so that memory stays flat
MAX_BAD_SHARE = 0.01
_EARLY_LINES = 10_000  # from here on a file that is bad for the most part is refused without reading it to its end
_EARLY_SHARE = 0.5
_TEXT = "text"


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
            raise DataError(
                f"{self.path}: {total:,} of {self.lines:,} lines cannot be used ({reasons})",
                fix="convert the file to UTF-8 text of the format that its name says, or leave it out",
            )


def read_text(stream: BinaryIO, tally: LineTally, separator: Separator) -> Texts:
    """Documents of a txt file: the file, its lines, or what blank lines separate."""
    number, size = 0, 0
    held: list[bytes] = []
    for line in _lines(stream, tally):
        blank = not line.strip()
        if not blank or separator == "file":
            held.append(line)
            size += len(line)
        ends = separator == "line" or (separator == "blank" and blank)
        if held and (ends or size >= MAX_PIECE_BYTES):
            yield number, _decode(held, tally)
            held, size = [], 0
        number += ends
    if held:
        yield number, _decode(held, tally)


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
            yield number, row[_TEXT]


def read_csv(stream: BinaryIO, tally: LineTally, delimiter: str) -> Texts:
    """The column `text`, or the only column that holds text. Raises DataError when the column is not clear."""
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = (line.decode("utf-8", "surrogateescape") for line in _lines(stream, tally))
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
        try:
            row = next(reader, None)
        except csv.Error as error:
            tally.bad(f"invalid CSV ({error})", "", times=reader.line_num - before)
            before = reader.line_num
            continue
        if row is None:
            return
        lines_used, before = reader.line_num - before, reader.line_num
        number += 1
        if not row:
            continue
        if len(row) != len(header):
            tally.bad(f"not {len(header)} columns", delimiter.join(row), times=lines_used)
            continue
        if column is None:
            column = _only_text_column(header, row, tally.path)
        if reason := _fault(row[column]):
            tally.bad("invalid UTF-8" if reason == "lone surrogate" else reason, row[column], times=lines_used)
        else:
            yield number, row[column]


def read_parquet(path: Path, tally: LineTally) -> Texts:
    """The column `text`, decoded in another process: a native crash there becomes a DataError here."""
    limit = DecodedLimit(path, check_regular(path).st_size)
    worker = Path(__file__).with_name("parquet_worker.py")
    # -P: the worker's own folder must not stand in front of the libraries that it imports.
    command = [sys.executable, "-P", str(worker), os.fspath(path), _TEXT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        finished = False
        try:
            number = 0
            while len(head := process.stdout.read(8)) == 8:
                (length,) = struct.unpack("<q", head)
                raw = process.stdout.read(length) if length > 0 else b""
                if len(raw) < length:
                    break  # the worker died; its exit status says how
                limit.add(len(raw))
                tally.lines += 1
                number += 1
                yield number, _decode([raw], tally)
            message = process.stderr.read(10_000).decode("utf-8", "replace").strip()
            finished = True
        finally:
            if not finished:  # the caller stopped reading, or a cap was hit
                process.kill()
    if process.returncode != 0:
        how = f"the reader was killed by signal {-process.returncode}" if process.returncode < 0 else message
        raise DataError(f"{path} cannot be read as parquet: {how}", fix="the file is damaged or not parquet")


def _lines(stream: BinaryIO, tally: LineTally) -> Iterator[bytes]:
    first = True
    while line := stream.readline(MAX_LINE_BYTES + 1):
        tally.lines += 1
        if len(line) > MAX_LINE_BYTES:
            tally.bad("line over 16 MiB", line[:1000])
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES)
            continue
        if first:
            line, first = line.removeprefix(b"\xef\xbb\xbf"), False
        yield line


def _decode(lines: list[bytes], tally: LineTally) -> str:
    raw = b"".join(lines)
    if b"\0" not in raw:
        try:
            return raw.decode().replace("\r\n", "\n").strip()
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
    return "".join(kept).replace("\r\n", "\n").strip()


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
            float(value or "0")
        except ValueError:
            return False
        return True

    texts = [i for i, value in enumerate(row) if not is_number(value)]
    if len(texts) != 1:
        raise DataError(
            f"{path} has no column 'text', and {len(texts)} of its columns ({', '.join(header)}) hold text",
            fix="rename the column to 'text'",
        )
    return texts[0]
