"""Whether a task can be fine-tuned on, found before any time is spent on it: by its rows alone, then by the subject."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate.protocols import Protocol
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.tasks.rows import Rows, TaskData
from gpuday.evaluate.tasks.task import Task

LEAST_TOKENS = 8  # of a row: three of them are special
GROUPED = {"question_match", "gender_parity"}  # metrics of rows that belong together


def check(subject: Subject, data: TaskData, protocol: Protocol) -> None:
    """Raise as `check_data` and `check_length` do."""
    check_data(data, protocol)
    check_length(subject, protocol)


def check_length(subject: Subject, protocol: Protocol) -> None:
    """Raise UsageError for a subject that takes no rows with text."""
    if (longest := longest_row(subject, protocol)) < LEAST_TOKENS:
        raise UsageError(
            f"{subject.name} takes rows of {longest} tokens, too few for a task", fix=f"give at least {LEAST_TOKENS}"
        )


def check_data(data: TaskData, protocol: Protocol) -> None:
    """Raise DataError for rows that cannot be trained on or scored, UsageError for companions that do not suit the task."""
    task, name = data.task, data.task.name
    if len(data.train) < protocol.batch:
        raise DataError(
            f"{name} has {len(data.train)} train rows, fewer than a batch", fix=f"give at least {protocol.batch}"
        )
    labelled = {"train": data.train, "dev": data.dev, **data.companions}
    for part, rows in {**labelled, **{f"test:{n}": rows for n, rows in data.test.items()}}.items():
        where = f"{name}, {part}"
        if rows.labels is None and part in labelled:
            raise DataError("the rows have no labels", where=where, fix="give a label in every row")
        _check_rows(task, rows, where)
    for companion in task.companions:
        there = companion.name in data.companions
        if there and (companion.kind, companion.outputs) != (task.kind, task.outputs):
            raise UsageError(
                f"{companion.name} asks for a {companion.kind} with {companion.outputs} outputs,"
                f" the head of {name} is a {task.kind} with {task.outputs}",
                fix="give it a task of its own",
            )
    theirs = [(c, data.companions[c.name]) for c in task.companions if c.name in data.companions]
    for scored, rows in ((task, data.dev), *theirs):
        if rows.groups is None and not GROUPED.isdisjoint(scored.metrics):
            raise DataError(
                f"{scored.name} is scored by groups of rows, and the rows have none",
                where=f"{scored.name}, {scored.dev_file}",
                fix="give `group` in every row",
            )
    _check_classes(data)


def longest_row(subject: Subject, protocol: Protocol) -> int:
    """Tokens of a row at most."""
    return min(protocol.max_tokens, subject.length)


def _check_rows(task: Task, rows: Rows, where: str) -> None:
    """Whether rows have what the kind needs, in sizes that fit."""
    second = rows.text_b or ("",) * len(rows)
    for number, (a, b) in enumerate(zip(rows.text_a, second, strict=True), start=1):
        if not a.strip() and not b.strip():
            raise DataError(f"row {number} has no text", where=where, fix="give it one, or leave the row out")
    if task.kind == "choice":
        _check_options(task, rows, where)
    elif task.kind == "tagging":
        _check_words(rows, where)
    elif task.kind == "span" and rows.text_b is None:
        raise DataError("the questions have no contexts", where=where, fix="give a context for every question")
    if rows.labels is not None:
        _check_labels(task, rows, rows.labels, where)


def _check_options(task: Task, rows: Rows, where: str) -> None:
    if rows.options is None:
        raise DataError("the rows have no candidates to choose from", where=where, fix="give `options` in every row")
    for number, options in enumerate(rows.options, start=1):
        if len(options) != task.options:
            raise DataError(
                f"row {number} has {len(options)} candidates, not {task.options}",
                where=where,
                fix="give every row as many",
            )


def _check_words(rows: Rows, where: str) -> None:
    if rows.words is None:
        raise DataError("the rows are not split into words", where=where, fix="give one word with its tag in each line")
    lengths = [len(words) for words in rows.words]
    if 0 in lengths:
        raise DataError(f"row {lengths.index(0) + 1} has no words", where=where, fix="leave the row out")


def _check_labels(task: Task, rows: Rows, labels: NDArray[Any], where: str) -> None:
    if task.kind == "tagging":
        words = sum(map(len, rows.words or ()))
        if len(labels) != words:
            raise DataError(f"{words} words have {len(labels)} tags", where=where, fix="give every word one tag")
    elif len(labels) != len(rows) or labels.shape[1:] != ((2,) if task.kind == "span" else ()):
        raise DataError(
            f"{len(rows)} rows have labels of shape {labels.shape}", where=where, fix="give every row one label"
        )
    if task.kind == "regression":
        if not np.isfinite(labels).all():
            raise DataError("a label is not a finite number", where=where, fix="give a number in every row")
    elif task.kind != "span" and len(labels):
        classes = task.options if task.kind == "choice" else len(task.classes)
        if not 0 <= labels.min() <= labels.max() < classes:
            raise DataError(
                f"labels reach from {labels.min()} to {labels.max()}", where=where, fix=f"give 0 to {classes - 1}"
            )


def _check_classes(data: TaskData) -> None:
    """Whether the train rows can teach what is asked."""
    task, labels = data.task, data.train.labels
    assert labels is not None, "check asks for labels first"
    where = f"{task.name}, train"
    if task.kind == "span":
        if data.dev.answers is None:
            raise DataError(
                "the dev rows have no answers", where=f"{task.name}, dev", fix="give `answers` in every row"
            )
        if (labels[:, 0] < 0).all():
            raise DataError("no train row has an answer", where=where, fix="give rows that have one")
    elif task.kind == "regression":
        if np.ptp(labels) == 0:
            raise DataError("all labels are equal", where=where, fix="give rows of unlike labels")
    else:
        seen = np.unique(labels)
        if task.kind != "choice" and len(seen) < 2:
            raise DataError("all rows are of one class", where=where, fix="give rows of two classes or more")
        # Rare classes may be lost where rows were capped on purpose, and tags may be rarer than any row.
        if task.kind == "classification" and not data.capped and len(seen) < len(task.classes):
            missing = next(name for i, name in enumerate(task.classes) if i not in seen)
            raise DataError(f"no row is of class {missing!r}", where=where, fix="give rows of every class")
