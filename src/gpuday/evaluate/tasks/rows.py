"""Rows of a task: read from JSONL (plain or zstd) or from GLUE's own TSV, checked whole before anything is trained."""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from gpuday.core.errors import DataError
from gpuday.core.seeds import generator
from gpuday.data.streams import decoded
from gpuday.evaluate.tasks.task import Task, Tsv

ENDINGS = (".jsonl", ".jsonl.zst", ".tsv")
PARTIAL = "-partial"
SHORT_ROWS = 1e-3  # the official QQP files hold a few rows torn by a line break; more than this share is another fault
_LABEL_DIGITS = 9
_SHOWN = 60  # characters of a value in an error
MAX_BYTES = 4 << 30  # of an unpacked file; MNLI, the largest of GLUE, has 0.08 GB


@dataclass(frozen=True, kw_only=True)
class Rows:
    """N labelled rows. `text_b` is None where a row has one text; `labels` is [N], int64 or float64."""

    text_a: tuple[str, ...]
    text_b: tuple[str, ...] | None
    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.text_a)

    def take(self, indices: NDArray[np.int64]) -> "Rows":
        """The rows at these positions, in this order."""
        text_b = None if self.text_b is None else tuple(self.text_b[i] for i in indices)
        return Rows(text_a=tuple(self.text_a[i] for i in indices), text_b=text_b, labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task with its rows."""

    task: Task
    train: Rows
    dev: Rows
    data_hash: str
    """xxh3-128 of what the rows were read from, the whole train set included."""
    train_rows_available: int
    """Train rows before any cap."""
    partial: bool = False
    """Whether the files are known to hold a part of the official rows."""

    @property
    def capped(self) -> bool:
        return len(self.train) < self.train_rows_available


def find_folder(task: Task, root: Path) -> Path | None:
    """`root/<Task>`, or `root/<Task>-partial`, whatever the case of its letters; None where there is neither."""
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder", where="--task-data", fix="name the folder that holds <Task>/train.jsonl"
        )
    folders = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()}
    return next((folders[n] for n in (task.name.lower(), task.name.lower() + PARTIAL) if n in folders), None)


def find_file(folder: Path, stem: str) -> Path | None:
    """`stem` with the first ending that exists."""
    return next((folder / (stem + e) for e in ENDINGS if (folder / (stem + e)).is_file()), None)


def read_task(task: Task, root: Path) -> TaskData:
    """Both files of a task below `root`. Raises DataError naming the file, the row and the fix for what is wrong."""
    folder = find_folder(task, root)
    if folder is None:
        raise DataError(f"{task.name} is not in {root}", fix=f"put its files into {root / task.name}/, {_layout(task)}")
    hasher, splits = xxhash.xxh3_128(), []
    for stem in (task.train_file, task.dev_file):
        path = find_file(folder, stem)
        if path is None:
            raise DataError(f"{task.name} has no {stem} file", where=str(folder), fix=_layout(task))
        content = path.read_bytes()
        hasher.update(content)
        splits.append(parse_rows(task, path, content))
    train, dev = splits
    partial = folder.name.lower().endswith(PARTIAL)
    return TaskData(
        task=task,
        train=train,
        dev=dev,
        data_hash=hasher.hexdigest(),
        train_rows_available=len(train),
        partial=partial,
    )


def parse_rows(task: Task, path: Path, content: bytes) -> Rows:
    """The rows in a file's content; `path` tells the format and stands in the errors."""
    if path.suffix == ".tsv":
        if task.tsv is None:
            raise DataError(f"{task.name} has no TSV layout", where=str(path), fix=_layout(task))
        records = _tsv_records(task.tsv, path, content)
        columns = task.tsv.text_a, task.tsv.text_b, task.tsv.label
    else:
        records = _json_records(path, _unpacked(path, content))
        columns = "text_a", "text_b" if task.pair else None, "label"
    text_a: list[str] = []
    text_b: list[str] = []
    labels: list[float] = []
    for number, record in records:
        where = f"{path}, line {number}"
        text_a.append(_text(record, columns[0], where))
        if columns[1] is not None:
            text_b.append(_text(record, columns[1], where))
        labels.append(_label(task, record.get(columns[2]), columns[2], where))
    if not labels:
        raise DataError(f"{path} has no rows", fix="restore the file")
    kind = np.int64 if task.kind == "classification" else np.float64
    return Rows(text_a=tuple(text_a), text_b=tuple(text_b) if task.pair else None, labels=np.array(labels, dtype=kind))


def cap_rows(data: TaskData, rows: int | None) -> TaskData:
    """At most `rows` train rows: one subset for a task, whatever the seed of a fine-tuning; None keeps all."""
    if rows is None or rows >= len(data.train):
        return data
    chosen = generator(0, f"finetune/{data.task.name}/rows").permutation(len(data.train))[:rows]
    return replace(data, train=data.train.take(np.sort(chosen)))


def _layout(task: Task) -> str:
    fields = "text_a, text_b and label" if task.pair else "text_a and label"
    official = " or GLUE's .tsv" if task.tsv else ""
    return (
        f"as {task.train_file} and {task.dev_file} in .jsonl, .jsonl.zst{official}; a JSON object a line with {fields}"
    )


def _unpacked(path: Path, content: bytes) -> bytes:
    if path.suffix != ".zst":
        return content
    with decoded(io.BytesIO(content), path, len(content)) as stream:
        text = stream.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise DataError(f"{path} unpacks to more than {MAX_BYTES:,} bytes", fix="is this the task's file?")
    return text


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}", fix="convert the file to UTF-8") from error


def _json_records(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_decoded(path, content).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"line {number} is not JSON: {error}", where=str(path), fix="mend the line") from error
        if not isinstance(record, dict):
            raise DataError(f"line {number} is not a JSON object", where=str(path), fix="write {...} on every line")
        yield number, record


def _tsv_records(tsv: Tsv, path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    # No quoting: a quotation mark in GLUE's files is a character of the text.
    lines = [line.rstrip("\r").split("\t") for line in _decoded(path, content).rstrip("\n").split("\n")]
    names = list(tsv.names) or lines[0]
    body = list(enumerate(lines, start=1))[0 if tsv.names else 1 :]
    wanted = [c for c in (tsv.text_a, tsv.text_b, tsv.label) if c is not None]
    if missing := [c for c in wanted if c not in names]:
        raise DataError(
            f"no column {missing[0]!r}", where=f"{path}: {', '.join(names)[:1000]}", fix="use the official file"
        )
    last = max(names.index(c) for c in wanted)
    whole = [(n, cells) for n, cells in body if len(cells) > last]
    if len(body) - len(whole) > SHORT_ROWS * len(body):
        raise DataError(f"{len(body) - len(whole)} rows lack columns", where=str(path), fix="restore the file")
    for number, cells in whole:
        yield number, dict(zip(names, cells, strict=False))


def _text(record: dict[str, Any], column: str, where: str) -> str:
    text = record.get(column)
    if not isinstance(text, str):
        raise DataError(f"no text in column {column!r}", where=where, fix=f"give {column!r} a string in every row")
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise DataError(f"lone surrogate in column {column!r}", where=where, fix="write the text as UTF-8")
    return text


def _label(task: Task, value: Any, column: str, where: str) -> float:
    if task.kind == "regression":
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
        raise DataError(
            f"label {_shown(value)} is not a number", where=where, fix=f"give {column!r} a number in every row"
        )
    if isinstance(value, str) and value in task.classes:
        return task.classes.index(value)
    if isinstance(value, str) and value.isdecimal() and len(value) <= _LABEL_DIGITS:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(task.classes):
        return value
    known = ", ".join(f"{i} {name}" for i, name in enumerate(task.classes))
    raise DataError(f"label {_shown(value)} in column {column!r}", where=where, fix=f"use one of: {known}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
