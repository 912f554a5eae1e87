"""The user's own file as a table: CSV, TSV and JSON lines, also as .gz, .zst or .xz, and parquet. Values are text."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gpuday.core.absent import why_absent
from gpuday.core.errors import DataError, UsageError, nearest
from gpuday.data.document import DropCounter
from gpuday.data.records import LineTally, column_names, read_column
from gpuday.data.streams import COMPRESSIONS, open_decoded
from gpuday.evaluate.tasks.tables import MAX_BYTES, Records, csv_records, json_records
from gpuday.evaluate.tasks.task import Record

KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".json", ".conll", ".txt")
_SHOWN = 30  # columns in an error


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table, N values."""

    name: str
    values: tuple[str, ...]
    """Without blanks at their ends; "" where there is none."""
    lines: tuple[int, ...]
    """Where each value stands: its line, or its row in a parquet file."""


def kind_of(path: Path, flag: str = "--task") -> str:
    """The ending that says what a file holds, that of a compression taken off. Raises DataError for others; `flag` is
    where the user named it."""
    if not path.is_file():
        raise DataError(f"{path} is not there", where=flag, fix=why_absent(str(path)))
    inner = Path(path.stem) if path.suffix in COMPRESSIONS else path
    if inner.suffix.lower() in KINDS:
        return inner.suffix.lower()
    known = f"{', '.join(KINDS)}, all but parquet also with {', '.join(COMPRESSIONS)}"
    raise DataError(f"{path} is of no known kind", where=flag, fix=f"known: {known}")


def content_of(path: Path) -> bytes:
    """The decoded bytes of a file."""
    with open_decoded(path) as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} has more than {MAX_BYTES:,} bytes", fix="fine-tune on a part of it")
    return content


def read_columns(path: Path, wanted: dict[str, str]) -> list[Column]:
    """The wanted columns {flag: name} in their order. Raises UsageError for a name that no column has."""
    kind = kind_of(path)
    if kind == ".parquet":
        check_columns(path, wanted, column_names(path))
        return [_of_parquet(path, name) for name in wanted.values()]
    lines, known = list[int](), dict[str, None]()
    values: list[list[str]] = [[] for _ in wanted]
    held = 0
    with open_decoded(path) as stream:
        for number, record in records_of(path, kind, stream):
            if kind in (".csv", ".tsv") and not lines:
                check_columns(path, wanted, list(record))
            known.update(dict.fromkeys(record))
            lines.append(number)
            for column, name in zip(values, wanted.values(), strict=True):
                column.append(written(record, name, f"{path}, line {number}"))
                held += len(column[-1])
            if held > MAX_BYTES:
                raise DataError(f"{path} has more than {MAX_BYTES:,} characters", fix="fine-tune on a part of it")
    if not lines:
        raise DataError(f"{path} has no rows", where="--task", fix="name a file with a row for each example")
    check_columns(path, wanted, list(known))
    return [
        Column(name=name, values=tuple(column), lines=tuple(lines))
        for name, column in zip(wanted.values(), values, strict=True)
    ]


def records_of(path: Path, kind: str, stream: BinaryIO) -> Records:
    """The rows of a table of this kind, one after the other."""
    if kind in (".csv", ".tsv"):
        return csv_records(path, stream, "," if kind == ".csv" else "\t")
    return json_records(path, stream)


def check_columns(path: Path, wanted: dict[str, str], columns: list[str], *, fix: str = "") -> None:
    """Raise UsageError for the flag {flag: name} whose column is not there; without a `fix` the nearest one is named."""
    for flag, name in wanted.items():
        if name not in columns:
            more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
            raise UsageError(
                f"{path} has no column {name!r}; it has {', '.join(columns[:_SHOWN])}{more}",
                where=flag,
                fix=fix or nearest(name, columns),
            )


def _of_parquet(path: Path, name: str) -> Column:
    tally = LineTally(path, DropCounter())
    values: dict[int, str] = {}
    for number, text in read_column(path, tally, name):
        values[number] = values.get(number, "") + text
    tally.check(0.0)  # of a task's rows none is left out
    return Column(name=name, values=tuple(v.strip() for v in values.values()), lines=tuple(values))


def written(record: Record, name: str, where: str) -> str:
    """A value as text: whole numbers without a point, truths as true and false."""
    value: Any = record.get(name)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return str(int(value))
    if value is None or isinstance(value, int | float):
        return "" if value is None else str(value)
    if not isinstance(value, str):
        raise DataError(f"column {name!r} holds a {type(value).__name__}", where=where, fix="give text or a number")
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise DataError(f"lone surrogate in column {name!r}", where=where, fix="write the text as UTF-8")
    return value.strip()
