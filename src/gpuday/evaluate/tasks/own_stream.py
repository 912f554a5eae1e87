"""Texts of the user's own file one row after the other, for files of any length: tables, parquet, and txt by its lines."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

import numpy as np

from gpuday.core.errors import DataError, UsageError
from gpuday.data.document import DropCounter
from gpuday.data.records import LineTally, column_names, read_column
from gpuday.data.streams import open_decoded
from gpuday.evaluate.tasks.own import unlabelled
from gpuday.evaluate.tasks.own_table import check_columns, kind_of, records_of, written
from gpuday.evaluate.tasks.parsing import Columns
from gpuday.evaluate.tasks.rows import Rows
from gpuday.evaluate.tasks.tables import lines_of
from gpuday.evaluate.tasks.task import Record, Task

FILE = "FILE"
RENAME = "rename the column, or name the one that holds the text with --text COLUMN"
RENAME_TWO = "rename the column, or name those that hold the texts, the first one first: --text COLUMN --text COLUMN"


@dataclass(frozen=True, slots=True)
class TextRow:
    """A row of the user's file."""

    line: int
    """Where it stands; of a parquet file its number."""
    texts: tuple[str, ...]
    """Without blanks at their ends; "" where there is none."""
    id: str = ""
    """What the file calls the row; "" where it does not."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Consecutive rows of a file, to be answered."""

    rows: Rows
    empty: dict[int, int]
    """{position in `rows`: line} of those that lack a text, and so have no answer."""
    unit: str = "line"
    """What `empty` counts: lines; of parquet rows, of SQuAD's JSON questions."""


def stream_texts(path: Path, wanted: dict[str, str], *, fix: str = "") -> Iterator[TextRow]:
    """The wanted columns {flag: name} of every row, and its id where a column is called as ids are.

    Raises UsageError for a name that no column has, with this `fix` if there is one, and DataError for rows that cannot be
    read, and where no row has all its texts.
    """
    kind, rows, empty, first = kind_of(path, FILE), 0, 0, 0
    read = _parquet if kind == ".parquet" else _lines if kind == ".txt" else _table
    for row in read(path, kind, wanted, fix):
        rows += 1
        empty += not all(row.texts)
        first = first or row.line
        yield row
    if not rows:
        raise DataError(f"{path} has no rows", fix="name a file with a row for each text")
    if empty == rows:
        raise _without_text(path, kind, rows, first, "name the column of the texts")


def unlabelled_parts(
    task: Task, path: Path, columns: Sequence[str], rows: int, *, named: bool = True
) -> Iterator[Part]:
    """The rows of a file to be answered, so many at a time. A table is read as it is answered; tagged words, questions and
    choices, which name no columns, are read whole.

    `named` says that the user named the `columns`: else they are those that the model was fine-tuned on. Raises UsageError
    where the task has another number of texts a row.
    """
    if task.kind not in ("classification", "regression"):
        kind = kind_of(path, FILE)
        if columns:
            raise UsageError(f"the rows of {task.name} have no named columns", where="--text", fix="leave it out")
        found = unlabelled(task, path, blanks=True)
        if len(found.empty) == len(found):
            raise _without_text(path, kind, len(found), found.empty[0], "give every row what is to be answered")
        whole = found.rows(task.classes)
        for at in range(0, len(whole), rows):
            end = min(at + rows, len(whole))
            empty = {i - at: found.empty[i] for i in range(at, end) if i in found.empty}
            yield Part(rows=whole.take(np.arange(at, end)), empty=empty, unit=_unit(kind))
        return
    if len(columns) != 1 + task.pair:
        fix = "repeat --text for each of them, the first one first" if task.pair else "give --text once"
        raise UsageError(f"{task.name} has {1 + task.pair} texts a row, not {len(columns)}", where="--text", fix=fix)
    told = "--text {}" if named else FILE + "; the model was fine-tuned on column {!r}"
    fix = "" if named else RENAME_TWO if task.pair else RENAME
    stream = stream_texts(path, {told.format(name): name for name in columns}, fix=fix)
    while part := list(islice(stream, rows)):
        first, *second = zip(*(row.texts for row in part), strict=True)
        ids = tuple(row.id for row in part)
        yield Part(
            rows=Rows(text_a=first, text_b=second[0] if second else None, labels=None, ids=ids if any(ids) else None),
            empty={at: row.line for at, row in enumerate(part) if not all(row.texts)},
            unit=_unit(kind_of(path, FILE)),
        )


def _unit(kind: str) -> str:
    """What is counted in a file of this kind."""
    return {".parquet": "row", ".json": "question"}.get(kind, "line")


def _without_text(path: Path, kind: str, rows: int, first: int, fix: str) -> DataError:
    return DataError(f"none of the {rows:,} rows has a text", where=f"{path}, {_unit(kind)} {first}", fix=fix)


def _id_column(columns: Iterable[str], wanted: dict[str, str]) -> str | None:
    """The column of the rows' names; None where there is none."""
    return next((name for name in Columns().id if name in columns and name not in wanted.values()), None)


def _id_of(record: Record, wanted: dict[str, str], where: str) -> str:
    name = _id_column(record, wanted)
    return "" if name is None or isinstance(record[name], list | dict) else written(record, name, where)


def _table(path: Path, kind: str, wanted: dict[str, str], fix: str) -> Iterator[TextRow]:
    if kind not in (".csv", ".tsv", ".jsonl", ".ndjson"):
        raise DataError(f"{path} is no table", fix="give CSV, TSV, JSON lines, parquet, or a txt of one text a line")
    with open_decoded(path) as stream:
        known = dict[str, None]()
        for number, record in records_of(path, kind, stream):
            if not known.keys() >= {*wanted.values()}:
                known.update(dict.fromkeys(record))
                if kind in (".csv", ".tsv"):
                    check_columns(path, wanted, list(known), fix=fix)
            where = f"{path}, line {number}"
            texts = tuple(written(record, name, where) for name in wanted.values())
            yield TextRow(number, texts, _id_of(record, wanted, where))
        if known:  # a line of JSON may lack what others have
            check_columns(path, wanted, list(known), fix=fix)


def _parquet(path: Path, kind: str, wanted: dict[str, str], fix: str) -> Iterator[TextRow]:
    del kind
    there = column_names(path)
    check_columns(path, wanted, there, fix=fix)
    tally, named = LineTally(path, DropCounter()), _id_column(there, wanted)
    if named is not None and named not in column_names(path, flat=True):
        named = None
    names = [*wanted.values(), *([] if named is None else [named])]
    columns = [groupby(read_column(path, tally, name), itemgetter(0)) for name in names]
    for pieces in zip(*columns, strict=True):  # a long value comes in several pieces of one number
        texts = tuple("".join(text for _, text in column).strip() for _, column in pieces)
        tally.check(0.0)  # no row is left out
        yield TextRow(pieces[0][0], texts[: len(wanted)], "".join(texts[len(wanted) :]))
    tally.check(0.0)


def _lines(path: Path, kind: str, wanted: dict[str, str], fix: str) -> Iterator[TextRow]:
    """A text a line; blank lines are passed over."""
    del kind, fix
    if len(wanted) > 1:
        raise UsageError(f"{path} has one text a line", where="--text", fix="give a table for rows of two texts")
    with open_decoded(path) as stream:
        for number, line in enumerate(lines_of(path, stream), start=1):
            if text := line.strip():
                yield TextRow(number, (text,))
