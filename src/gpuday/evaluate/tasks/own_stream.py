"""Texts of the user's own file one row after the other, for files of any length: tables, parquet, and txt by its lines."""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path

import numpy as np

from gpuday.core.errors import DataError, UsageError
from gpuday.data.document import DropCounter
from gpuday.data.records import LineTally, column_names, read_column
from gpuday.data.streams import open_decoded
from gpuday.evaluate.tasks.own import unlabelled_rows
from gpuday.evaluate.tasks.own_table import check_columns, kind_of, records_of, written
from gpuday.evaluate.tasks.rows import Rows
from gpuday.evaluate.tasks.tables import lines_of
from gpuday.evaluate.tasks.task import Task

FILE = "FILE"
Texts = Iterator[tuple[str, ...]]


def stream_texts(path: Path, wanted: dict[str, str]) -> Texts:
    """The wanted columns {flag: name} of every row, without blanks at their ends.

    Raises UsageError for a name that no column has, DataError for rows that cannot be read, or have no text.
    """
    kind, empty = kind_of(path, FILE), True
    read = _parquet if kind == ".parquet" else _lines if kind == ".txt" else _table
    for number, texts in read(path, kind, wanted):
        empty = False
        if not all(texts):
            raise DataError(
                "the row has no text", where=f"{path}, line {number}", fix="fill it in, or take the row out"
            )
        yield texts
    if empty:
        raise DataError(f"{path} has no rows", fix="name a file with a row for each text")


def unlabelled_parts(task: Task, path: Path, columns: Sequence[str], rows: int) -> Iterator[Rows]:
    """The rows of a file to be answered, so many at a time. A table is read as it is answered; tagged words, questions and
    choices, which name no columns, are read whole.

    Raises UsageError where the task has another number of texts a row than there are `columns`.
    """
    if task.kind not in ("classification", "regression"):
        kind_of(path, FILE)
        if columns:
            raise UsageError(f"the rows of {task.name} have no named columns", where="--text", fix="leave it out")
        whole = unlabelled_rows(task, path)
        yield from (whole.take(np.arange(at, min(at + rows, len(whole)))) for at in range(0, len(whole), rows))
        return
    if len(columns) != 1 + task.pair:
        fix = "repeat --text for each of them, the first one first" if task.pair else "give --text once"
        raise UsageError(f"{task.name} has {1 + task.pair} texts a row, not {len(columns)}", where="--text", fix=fix)
    texts = stream_texts(path, {f"--text {name}": name for name in columns})
    while part := list(islice(texts, rows)):
        first, *second = zip(*part, strict=True)
        yield Rows(text_a=first, text_b=second[0] if second else None, labels=None)


def _table(path: Path, kind: str, wanted: dict[str, str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    if kind not in (".csv", ".tsv", ".jsonl", ".ndjson"):
        raise DataError(f"{path} is no table", fix="give CSV, TSV, JSON lines, parquet, or a txt of one text a line")
    with open_decoded(path) as stream:
        records = records_of(path, kind, stream)
        for first in records:
            check_columns(path, wanted, list(first[1]))
            for number, record in chain((first,), records):
                where = f"{path}, line {number}"
                yield number, tuple(written(record, name, where) for name in wanted.values())


def _parquet(path: Path, kind: str, wanted: dict[str, str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    del kind
    check_columns(path, wanted, column_names(path))
    tally = LineTally(path, DropCounter())
    columns = [groupby(read_column(path, tally, name), itemgetter(0)) for name in wanted.values()]
    for pieces in zip(*columns, strict=True):  # a long value comes in several pieces of one number
        texts = tuple("".join(text for _, text in column).strip() for _, column in pieces)
        tally.check(0.0)  # no row is left out
        yield pieces[0][0] + 1, texts
    tally.check(0.0)


def _lines(path: Path, kind: str, wanted: dict[str, str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """A text a line; blank lines are passed over."""
    del kind
    if len(wanted) > 1:
        raise UsageError(f"{path} has one text a line", where="--text", fix="give a table for rows of two texts")
    with open_decoded(path) as stream:
        for number, line in enumerate(lines_of(path, stream), start=1):
            if text := line.strip():
                yield number, (text,)
