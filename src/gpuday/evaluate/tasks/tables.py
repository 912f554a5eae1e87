"""Rows of a file as records, each with the number of its line: JSON lines, GLUE's tab-separated tables, CSV with quotes."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gpuday.core.errors import DataError
from gpuday.data.streams import COMPRESSIONS, decoded
from gpuday.evaluate.tasks.task import Record, Tsv

Records = Iterator[tuple[int, Record]]
Content = bytes | BinaryIO  # of a file, unpacked; of an open one no more is held than a row
MAX_BYTES = 4 << 30  # of an unpacked file; MNLI, the largest of GLUE, has 0.08 GB
SHORT_ROWS = 1e-3  # the official QQP files hold a few rows torn by a line break; more than this share is another fault
_MAX_CELL = 16 << 20  # characters of a value; an open quotation mark makes one of all the rest
_MAX_LINE = 64 << 20  # characters
_SHOWN = 1000  # characters of a header in an error


def unpacked(path: Path, content: bytes) -> bytes:
    """The content, decoded where the name ends in .gz, .zst or .xz."""
    if path.suffix not in COMPRESSIONS:
        return content
    with decoded(io.BytesIO(content), path, len(content)) as stream:
        text = stream.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise DataError(f"{path} unpacks to more than {MAX_BYTES:,} bytes", fix="is this the task's file?")
    return text


def text_of(path: Path, content: bytes) -> str:
    """The content as UTF-8, with or without a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}", fix="convert the file to UTF-8") from error


def lines_of(path: Path, content: Content, newline: str = "\n") -> Iterator[str]:
    """Lines with their ends, of UTF-8 with or without a byte order mark; with `newline` "" they may end with CR too."""
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    stream = io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline)
    try:
        while line := stream.readline(_MAX_LINE + 1):
            if len(line) > _MAX_LINE:
                raise DataError(f"{path} has a line of more than {_MAX_LINE:,} characters", fix="is this the file?")
            yield line
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}", fix="convert the file to UTF-8") from error
    finally:
        if not stream.closed:
            stream.detach()  # whoever opened the file closes it


def json_records(path: Path, content: Content) -> Records:
    """A JSON object a line; blank lines are passed over."""
    for number, line in enumerate(lines_of(path, content), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"line {number} is not JSON: {error}", where=str(path), fix="mend the line") from error
        if not isinstance(record, dict):
            raise DataError(f"line {number} is not a JSON object", where=str(path), fix="write {...} on every line")
        yield number, record


def tsv_records(tsv: Tsv, path: Path, content: bytes, *, labelled: bool = True) -> Records:
    """Rows of GLUE's tables. Without labels the file has a header line even where the labelled ones have none."""
    # No quoting: a quotation mark in GLUE's files is a character of the text.
    lines = [line.rstrip("\r").split("\t") for line in text_of(path, content).rstrip("\n").split("\n")]
    given = tsv.names if labelled else ()
    names = list(given) or lines[0]
    body = list(enumerate(lines, start=1))[0 if given else 1 :]
    text_a, text_b, label = tsv.columns(labelled=labelled)
    wanted = [c for c in (text_a, text_b, label) if c is not None]
    if missing := [c for c in wanted if c not in names]:
        raise DataError(
            f"no column {missing[0]!r}", where=f"{path}: {', '.join(names)[:_SHOWN]}", fix="use the official file"
        )
    last = max(names.index(c) for c in wanted)
    whole = [(n, cells) for n, cells in body if len(cells) > last]
    if len(body) - len(whole) > SHORT_ROWS * len(body):
        raise DataError(f"{len(body) - len(whole)} rows lack columns", where=str(path), fix="restore the file")
    for number, cells in whole:
        yield number, dict(zip(names, cells, strict=False))


def csv_records(path: Path, content: Content, delimiter: str = ",") -> Records:
    """Rows of a table whose first line names the columns, quoted as RFC 4180 says; the number is that of the row's first line."""
    csv.field_size_limit(_MAX_CELL)
    reader = csv.reader(lines_of(path, content, ""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    number, after = 0, 1
    try:
        for cells in reader:
            number, after = after, reader.line_num + 1
            if header is None:
                header = cells
                if len(set(header)) < len(header):
                    raise DataError("two columns have one name", where=str(path), fix="rename one of them")
            elif len(cells) == len(header):
                yield number, dict(zip(header, cells, strict=True))
            elif cells:
                raise DataError(
                    f"line {number} has {len(cells)} columns, the first line {len(header)}",
                    where=str(path),
                    fix="quote values that hold the separator",
                )
    except csv.Error as error:
        raise DataError(
            f"the row from line {after} on is not CSV: {error}", where=str(path), fix="mend the line"
        ) from error
