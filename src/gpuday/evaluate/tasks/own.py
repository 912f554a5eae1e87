"""The user's own task from one file: texts and labels of a table, tagged words in columns, or questions in SQuAD's JSON.

What it asks follows from the labels: numbers of many values, or with a fraction, make a regression, everything else a
classification whose classes are the labels, sorted. A number of stars is a class.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate.tasks.files import with_classes
from gpuday.evaluate.tasks.own_split import dev_rows, folded
from gpuday.evaluate.tasks.own_table import Column, content_of, kind_of, read_columns
from gpuday.evaluate.tasks.parsing import Collected, collect
from gpuday.evaluate.tasks.rows import Rows, TaskData
from gpuday.evaluate.tasks.task import Metric, Task

SUITE = "own"
LEAST_ROWS = 20  # in all: fewer leave nothing to score on
MOST_CLASSES = 500
CLASS_NUMBERS = 20  # different whole numbers are classes up to so many
_NAMED = 50  # letters of a file's or a column's name in that of the task
_CHUNK = 1 << 20  # bytes
_CITATION = "the user's own file"
_COLUMNS = {"tagging": (".conll", ".txt"), "span": (".json",)}


def own_task(
    file: Path,
    *,
    text: str | None = None,
    text_b: str | None = None,
    label: str | None = None,
    dev: Path | None = None,
) -> TaskData:
    """The task in a file. Without `dev` a tenth of the rows is split off, by the hash of the texts: the same rows each
    time, at least one of each class where it has two, and no text on both sides.

    Raises UsageError for a column that is not there, and DataError for rows that cannot be used: both before any training.
    """
    ending = kind_of(file)
    kind = next((kind for kind, endings in _COLUMNS.items() if ending in endings), "")
    flags = {"--text": text, "--text-b": text_b, "--label": label}
    if kind and any(flags.values()):
        given = ", ".join(flag for flag, name in flags.items() if name)
        raise UsageError(f"{file.name} has no named columns", where=given, fix="leave these flags out")
    if not kind and (text is None or label is None):
        missing = "--text" if text is None else "--label"
        raise UsageError(
            f"which column of {file.name} is meant is not said", where=missing, fix=f"add {missing} COLUMN"
        )
    if dev is not None and (kind_of(dev) in (e for es in _COLUMNS.values() for e in es)) != bool(kind):
        raise UsageError(f"{dev.name} and {file.name} are of two kinds", where="--dev", fix="give both in one form")
    task = Task(name=_name(file, label), suite=SUITE, citation=_CITATION, in_mean=False)
    paths = [file] if dev is None else [file, dev]
    if kind:
        task, parts = _of_layout(task, kind, paths)
    else:
        assert text is not None and label is not None
        task, parts = _of_table(task, paths, text, text_b, label)
    if dev is None:
        held = dev_rows(parts[0], task)
        parts = [parts[0].take(np.flatnonzero(~held)), parts[0].take(np.flatnonzero(held))]
    digest = xxhash.xxh3_128(json.dumps([task.kind, text, text_b, label]).encode())
    for path in paths:
        _add_to(digest, path)
    return TaskData(
        task=task, train=parts[0], dev=parts[1], data_hash=digest.hexdigest(), train_rows_available=len(parts[0])
    )


def unlabelled_rows(task: Task, file: Path, *, text: str | None = None, text_b: str | None = None) -> Rows:
    """The rows of a file to be answered by a model of `task`; labels are not looked at."""
    if task.kind in (*_COLUMNS, "choice"):
        return unlabelled(task, file).rows(task.classes)
    if text is None or (text_b is None) == task.pair:
        flag = "--text" if text is None else "--text-b"
        fix = f"leave {flag} out" if text is not None and not task.pair else f"add {flag} COLUMN"
        raise UsageError(f"{task.name} has {1 + task.pair} text(s) a row", where=flag, fix=fix)
    texts = [_filled(c, file) for c in read_columns(file, _flags(text, text_b, None))]
    return Rows(text_a=texts[0], text_b=texts[1] if task.pair else None, labels=None)


def unlabelled(task: Task, file: Path, *, blanks: bool = False) -> Collected:
    """Rows to be answered of a layout that has no columns: tagged words, questions, choices; `blanks` as in `collect`."""
    return collect(task, _inner(file), content_of(file), labelled=False, blanks=blanks)


def told(data: TaskData) -> dict[str, Any]:
    """What the screen shows of an own task before it is trained: kind, rows, classes with their train rows, and how many dev
    rows have a text (of a pair one of both, of a span the context) that is in train too, whatever its case and blanks."""
    task, train = data.task, data.train
    counts = np.bincount(train.labels, minlength=len(task.classes)) if task.classes and train.labels is not None else ()
    seen = set[str]().union(*_texts(train, task))
    return {
        "task": task.name,
        "kind": task.kind,
        "metrics": list(task.metrics),
        "train_rows": len(train),
        "dev_rows": len(data.dev),
        "classes": {name: int(n) for name, n in zip(task.classes, counts, strict=True)},
        "dev_rows_in_train": sum(not seen.isdisjoint(texts) for texts in _texts(data.dev, task)),
    }


def _of_table(task: Task, paths: Sequence[Path], text: str, text_b: str | None, label: str) -> tuple[Task, list[Rows]]:
    tables = [read_columns(path, _flags(text, text_b, label)) for path in paths]
    for path, (*texts, labels) in zip(paths, tables, strict=True):
        for column in texts:
            _filled(column, path)
        if not any(labels.values):
            raise DataError(f"column {label!r} has no labels", where=str(path), fix="name the column with the answers")
        _filled(labels, path, what="label")
    tables = [[*texts, _whole(labels)] for *texts, labels in tables]
    if len(tables[0][0].values) < LEAST_ROWS:
        raise DataError(
            f"{len(tables[0][0].values)} rows are too few to fine-tune on",
            where=str(paths[0]),
            fix=f"give {LEAST_ROWS}",
        )
    task = _asked(replace(task, pair=text_b is not None), tables[0][-1], paths[0])
    parts = []
    for path, (*texts, labels) in zip(paths, tables, strict=True):
        parts.append(
            Rows(
                text_a=texts[0].values,
                text_b=texts[1].values if task.pair else None,
                labels=_numbers(task, labels, path),
            )
        )
    return task, parts


def _asked(task: Task, labels: Column, path: Path) -> Task:
    """The task with kind, classes and metrics as the train labels have them."""
    different = sorted(set(labels.values))
    numbers = [_number(value) for value in different]
    where = f"{path}, column {labels.name!r}"
    if len(different) == 1:
        raise DataError(f"all labels are {different[0]!r}", where=where, fix="give rows of two classes at least")
    if all(n is not None for n in numbers):
        values = sorted({n for n in numbers if n is not None})
        if len(values) > CLASS_NUMBERS or any(n != int(n) for n in values):
            return replace(task, kind="regression", metrics=("pearson", "spearman"))
        different = sorted(different, key=lambda value: (float(value), value))
    if len(different) > MOST_CLASSES or 2 * len(different) > len(labels.values):
        raise DataError(
            f"{len(different):,} different labels in {len(labels.values):,} rows are too many for classes",
            where=where,
            fix=f"name the column with the answers; at most {MOST_CLASSES} classes, of two rows each on average",
        )
    binary: tuple[Metric, ...] = ("accuracy", "macro_f1", "matthews")
    return replace(task, classes=tuple(different), metrics=binary if len(different) == 2 else binary[:2])


def _numbers(task: Task, labels: Column, path: Path) -> Any:
    if task.kind == "regression":
        found = [_number(value) for value in labels.values]
        if None in found:
            at = found.index(None)
            raise DataError(
                f"label {labels.values[at]!r} is not a number", where=f"{path}, line {labels.lines[at]}", fix="mend it"
            )
        return np.array(found, dtype=np.float64)
    number = {name: i for i, name in enumerate(task.classes)}
    for value, line in zip(labels.values, labels.lines, strict=True):
        if value not in number:
            raise DataError(
                f"label {value!r} is not among those of the train rows",
                where=f"{path}, line {line}",
                fix=f"known: {', '.join(task.classes)[:1000]}",
            )
    return np.array([number[value] for value in labels.values], dtype=np.int64)


def _of_layout(task: Task, kind: str, paths: Sequence[Path]) -> tuple[Task, list[Rows]]:
    if kind == "span":
        task = replace(task, kind="span", pair=True, metrics=("span_f1", "exact_match"))
    else:
        task = replace(task, kind="tagging", metrics=("accuracy",))
    parts: list[Collected] = [collect(task, _inner(path), content_of(path)) for path in paths]
    if len(parts[0]) < LEAST_ROWS:
        raise DataError(
            f"{len(parts[0])} rows are too few to fine-tune on", where=str(paths[0]), fix=f"give {LEAST_ROWS}"
        )
    task = with_classes(task, parts)
    if kind == "tagging" and len(task.classes) < 2:
        raise DataError(f"all tags are {task.classes[0]!r}", where=str(paths[0]), fix="end every line with its tag")
    if any(re.match(r"[BISEUL]-", name) for name in task.classes):
        task = replace(task, metrics=("entity_f1", "accuracy"))
    return task, [part.rows(task.classes) for part in parts]


def _filled(column: Column, path: Path, what: str = "text") -> tuple[str, ...]:
    """The values. Raises DataError where one is empty."""
    empty = [line for value, line in zip(column.values, column.lines, strict=True) if not value]
    if empty:
        raise DataError(
            f"{len(empty):,} of {len(column.values):,} rows have no {what} in column {column.name!r}",
            where=f"{path}, line {empty[0]}",
            fix="fill them in, or take the rows out",
        )
    return column.values


def _whole(labels: Column) -> Column:
    """The labels without the `.0` that a table program puts behind whole numbers, where all are numbers."""
    if any(_number(value) is None for value in labels.values):
        return labels
    return replace(labels, values=tuple(re.sub(r"\.0*$", "", value) for value in labels.values))


def _add_to(digest: xxhash.xxh3_128, path: Path) -> None:
    """A file's bytes behind their number, so that no other two files join to the same."""
    digest.update(f"{path.stat().st_size}:".encode())
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)


def _flags(text: str, text_b: str | None, label: str | None) -> dict[str, str]:
    named = {"--text": text, "--text-b": text_b, "--label": label}
    return {flag: name for flag, name in named.items() if name is not None}


def _number(value: str) -> float | None:
    """The finite number that a value is; a word that Python would read as one (`nan`, `1_000`) is none."""
    return float(value) if re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?", value) else None


def _texts(rows: Rows, task: Task) -> list[set[str]]:
    """Those of each row that ought not to be in train and dev both, folded."""
    sides = [side for side in (rows.text_a, rows.text_b) if side is not None]
    return [set(map(folded, texts)) for texts in zip(*(sides[1:] if task.kind == "span" else sides), strict=True)]


def _inner(path: Path) -> Path:
    """The path without the ending of a compression: its content is decoded already."""
    return path.with_suffix("") if path.suffix in (".gz", ".zst", ".xz") else path


def _name(path: Path, label: str | None) -> str:
    """The file's name up to its first dot, and the column of the labels unless that is called so: several columns of a file
    are several tasks. With a hyphen for what a folder may not be called."""
    parts = [path.name.split(".")[0], *([label] if label not in (None, "label") else [])]
    return "-".join(filter(None, (re.sub(r"[^\w-]+", "-", part)[:_NAMED].strip("-") for part in parts))) or "own"
