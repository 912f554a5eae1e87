"""From a file's records to checked rows: texts are strings, labels are known, and an error names the line and the fix.

Flat JSON lines hold, by the kind of the task: `text_a`, `text_b` and `label`; `text_a`, `options` and `label` (number of
the right one); `words` and `labels` (a tag a word); `text_a` (question), `text_b` (context) and `answers`, a list of
{"text", "start"}. `idx` names a row and `group` what is scored together, where there are such.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpuday.core.errors import DataError
from gpuday.evaluate.tasks.layouts import sentence_records, squad_records
from gpuday.evaluate.tasks.rows import Rows
from gpuday.evaluate.tasks.tables import csv_records, json_records, tsv_records, unpacked
from gpuday.evaluate.tasks.task import Record, Task

_LABEL_DIGITS = 9
_SHOWN = 60  # characters of a value in an error
_BLANK: Record = {"words": [""], "text_a": "", "text_b": ""}
_FLAT = ("text_a", "words")  # what a flat record has, and no official one


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a record are called."""

    text_a: str = "text_a"
    text_b: str | None = None
    label: str | None = "label"
    """None: the rows are not labelled."""
    id: tuple[str, ...] = ("idx", "id", "ids", "index")
    """The first of these that a record has."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Checked rows that grow one by one; `rows` gives them as they are."""

    task: Task
    texts_a: list[str] = field(default_factory=list)
    texts_b: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    """Numbers; of tagging a tuple of tags a row, of span a pair of characters."""
    options: list[tuple[str, ...]] = field(default_factory=list)
    words: list[tuple[str, ...]] = field(default_factory=list)
    answers: list[tuple[str, ...]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    empty: dict[int, int] = field(default_factory=dict)
    """{position: line or question} of the rows that lack what is asked about, where they are let through."""

    def __len__(self) -> int:
        return len(self.texts_a)

    def tags(self) -> set[str]:
        """All tags that occur, of a tagging."""
        return {tag for row in self.labels for tag in row}

    def rows(self, classes: Sequence[str] = ()) -> Rows:
        """The rows; `classes` number the tags of a tagging."""
        return Rows(
            text_a=tuple(self.texts_a),
            text_b=tuple(self.texts_b) if self.texts_b else None,
            labels=self._numbers(classes) if self.labels else None,
            options=tuple(self.options) or None,
            words=tuple(self.words) or None,
            answers=tuple(self.answers) if self.task.kind == "span" and self.labels else None,
            groups=tuple(self.groups) if len(self.groups) == len(self) else None,
            ids=tuple(self.ids) if len(self.ids) == len(self) and any(self.ids) else None,
        )

    def _numbers(self, classes: Sequence[str]) -> Any:
        if self.task.kind == "tagging":
            number = {tag: i for i, tag in enumerate(classes)}
            return np.array([number[tag] for row in self.labels for tag in row], dtype=np.int64)
        return np.array(self.labels, dtype=np.float64 if self.task.kind == "regression" else np.int64)


def parse_rows(task: Task, path: Path, content: bytes, *, labelled: bool = True) -> Rows:
    """The rows in a file's content; `path` tells the format and stands in the errors. A tagging needs its classes."""
    return collect(task, path, content, labelled=labelled).rows(task.classes)


def collect(task: Task, path: Path, content: bytes, *, labelled: bool = True, blanks: bool = False) -> Collected:
    """As `parse_rows`, with the tags of a tagging still as words. With `blanks` rows of a layout that has no columns may lack
    what is asked about: see `Collected.empty`."""
    if path.suffix == ".tsv":
        if task.tsv is None:
            raise DataError(f"{task.name} has no TSV layout", where=str(path), fix=layout(task))
        text_a, text_b, label = task.tsv.columns(labelled=labelled)
        columns = Columns(text_a=text_a, text_b=text_b, label=label, id=(task.tsv.id,))
        return gather(task, columns, tsv_records(task.tsv, path, content, labelled=labelled), str(path))
    columns = Columns(text_b="text_b" if task.pair else None, label="label" if labelled else None)
    text = unpacked(path, content)
    if path.suffix == ".json":
        return gather(task, columns, squad_records(path, text), str(path), "question", blanks=blanks)
    if task.kind == "tagging" and ".jsonl" not in path.suffixes:
        return gather(task, columns, sentence_records(path, text, labelled=labelled), str(path))
    records = (csv_records if path.suffix == ".csv" else json_records)(path, text)
    return gather(task, columns, records, str(path), blanks=blanks)


def gather(
    task: Task,
    columns: Columns,
    records: Iterable[tuple[int, Record]],
    place: str,
    unit: str = "line",
    *,
    blanks: bool = False,
) -> Collected:
    """Checked rows of numbered records; `place` says where they are from, `blanks` is as in `collect`. Raises DataError where
    there are none."""
    found = Collected(task=task)
    for number, record in records:
        where = f"{place}, {unit} {number}"
        for flat in _flattened(task, record, where):
            if blanks and _lacks(task, flat):
                found.empty[len(found)] = number
                flat = {**flat, **_BLANK, "options": [""] * task.options}
            _add(found, columns, flat, where)
            if blanks and len(found.ids) < len(found):
                found.ids.append("")  # as a table gives a row without a name
    if not len(found):
        raise DataError(f"{place} has no rows", fix="restore the file")
    return found


def layout(task: Task) -> str:
    """How the files of a task are to be written, for an error's fix."""
    fields = {
        "choice": "text_a, options and label",
        "tagging": "words and labels",
        "span": "text_a (question), text_b (context) and answers",
    }.get(task.kind, "text_a, text_b and label" if task.pair else "text_a and label")
    fields = fields.replace(" and ", ", ") + " and group" if task.grouped else fields
    official = " or GLUE's .tsv" if task.tsv else ""
    published = f"; or as published: {', '.join(n for n in task.official[:2] if n)}" if task.official else ""
    return (
        f"as {task.train_file} and {task.dev_file} in .jsonl, .jsonl.zst{official}; a JSON object a line with {fields}"
        f"{published}"
    )


def text_in(record: Record, column: str, where: str) -> str:
    """The string in a column. Raises DataError for another value, and for what cannot be written as UTF-8."""
    text = record.get(column)
    if not isinstance(text, str):
        raise DataError(f"no text in column {column!r}", where=where, fix=f"give {column!r} a string in every row")
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise DataError(f"lone surrogate in column {column!r}", where=where, fix="write the text as UTF-8")
    return text


def label_of(task: Task, value: Any, column: str, where: str) -> float:
    """The number of a label: a float of a regression, else the class's number, which may be written as name or number."""
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
    count = task.options if task.kind == "choice" else len(task.classes)
    if isinstance(value, str) and value.isdecimal() and len(value) <= _LABEL_DIGITS:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count:
        return value
    known = ", ".join(f"{i} {name}".strip() for i, name in enumerate(task.classes or [""] * count))
    raise DataError(f"label {_shown(value)} in column {column!r}", where=where, fix=f"use one of: {known}")


def _flattened(task: Task, record: Record, where: str) -> Iterable[Record]:
    if task.recast is None or any(name in record for name in _FLAT):
        return (record,)
    try:
        return list(task.recast(record))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"this is no row of {task.name}: {type(error).__name__} {error}"[:1000], where=where, fix=layout(task)
        ) from error


def _add(found: Collected, columns: Columns, record: Record, where: str) -> None:
    task, labelled = found.task, columns.label is not None
    if name := next((n for n in columns.id if isinstance(record.get(n), str | int)), None):
        found.ids.append(str(record[name]))
    if isinstance(record.get("group"), str | int):
        found.groups.append(str(record["group"]))
    elif task.grouped and labelled:
        what = f"{task.name} is scored by groups of rows, and this row has no text or whole number in 'group'"
        raise DataError(what, where=where, fix=layout(task))
    if task.kind == "tagging":
        found.words.append(_strings(record, "words", where))
        found.texts_a.append(" ".join(found.words[-1]))
        if labelled:
            found.labels.append(_strings(record, "labels", where))
            if len(found.labels[-1]) != len(found.words[-1]):
                raise DataError("words and labels differ in number", where=where, fix="give every word a tag")
        return
    found.texts_a.append(text_in(record, columns.text_a, where))
    if task.kind == "span":
        found.texts_b.append(text_in(record, "text_b", where))
        if labelled:
            span, accepted = _span(record, found.texts_b[-1], where)
            found.labels.append(span)
            found.answers.append(accepted)
        return
    if task.kind == "choice":
        found.options.append(_strings(record, "options", where))
        if len(found.options[-1]) != task.options:
            raise DataError(
                f"{len(found.options[-1])} options", where=where, fix=f"give every row {task.options} of them"
            )
    elif columns.text_b is not None:
        found.texts_b.append(text_in(record, columns.text_b, where))
    if columns.label is not None:
        found.labels.append(label_of(task, record.get(columns.label), columns.label, where))


def _lacks(task: Task, record: Record) -> bool:
    """Whether there is nothing to ask of a row: no word; no text or an empty option; no question or no context."""
    if task.kind == "tagging":
        words = record.get("words")
        return words is None or (isinstance(words, list | tuple) and all(map(_is_blank, words)))
    if task.kind == "choice":
        options = record.get("options")
        lacking = options is None or (
            isinstance(options, list | tuple) and (not options or any(map(_is_blank, options)))
        )
        return lacking or _is_blank(record.get("text_a"))
    return _is_blank(record.get("text_a")) or _is_blank(record.get("text_b"))


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _strings(record: Record, column: str, where: str) -> tuple[str, ...]:
    values = record.get(column)
    if not isinstance(values, list | tuple) or not values:
        raise DataError(f"no list in column {column!r}", where=where, fix=f"give {column!r} a list in every row")
    return tuple(text_in({column: value}, column, where) for value in values)


def _span(record: Record, context: str, where: str) -> tuple[tuple[int, int], tuple[str, ...]]:
    """((first, one past the last character) of the first answer, all accepted answers)"""
    answers = record.get("answers")
    if not isinstance(answers, list) or not all(isinstance(a, dict) for a in answers):
        raise DataError("no list in column 'answers'", where=where, fix='give a list of {"text", "start"}, or []')
    texts = tuple(text_in(answer, "text", where) for answer in answers)
    if not texts:
        return (-1, -1), ()
    start = answers[0].get("start")
    if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start <= len(context):
        raise DataError("an answer has no place in the context", where=where, fix="give its first character as start")
    if not context.startswith(texts[0], start) or not texts[0]:
        raise DataError(
            f"the context does not hold the answer {_shown(texts[0])} at character {start}",
            where=where,
            fix="count characters from 0, of the context as it stands in the file",
        )
    return (start, start + len(texts[0])), texts


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
