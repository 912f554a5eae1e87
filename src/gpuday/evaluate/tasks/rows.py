"""Rows of a task, as every kind of task has them."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuday.core.seeds import generator
from gpuday.evaluate.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Rows:
    """N rows of one kind of task; what the kind does not have is None."""

    text_a: tuple[str, ...]
    """First texts; of tagging the words joined by a space, of span the questions."""
    text_b: tuple[str, ...] | None = None
    """Second texts; of span the contexts. None where a row has one text."""
    labels: NDArray[Any] | None
    """Classification and choice: int64 [N]. Regression: float64 [N]. Tagging: int64 [sum of words], row after row. Span:
    int64 [N, 2], first and one-past-last character of the first answer in the context, (-1, -1) where there is none.
    None: unlabelled."""
    options: tuple[tuple[str, ...], ...] | None = None
    """Choice: the candidates of each row, each of which is paired with `text_a`."""
    words: tuple[tuple[str, ...], ...] | None = None
    """Tagging: the words of each row."""
    answers: tuple[tuple[str, ...], ...] | None = None
    """Span: all accepted answers of each row, empty where there is none."""
    groups: tuple[str, ...] | None = None
    """What rows are scored together: a question of MultiRC, a pair of AX-g."""
    ids: tuple[str, ...] | None = None
    """Names of the rows in the official files."""

    def __len__(self) -> int:
        return len(self.text_a)

    def take(self, indices: NDArray[np.int64]) -> "Rows":
        """The rows at these positions, in this order."""

        def chosen(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
            return None if values is None else tuple(values[i] for i in indices)

        labels = self.labels
        if labels is not None:
            if self.words is None:
                labels = labels[indices]
            else:
                by_row = np.split(labels, np.cumsum([len(w) for w in self.words])[:-1])
                labels = np.concatenate([labels[:0], *(by_row[i] for i in indices)])
        return Rows(
            text_a=tuple(self.text_a[i] for i in indices),
            text_b=chosen(self.text_b),
            labels=labels,
            options=chosen(self.options),
            words=chosen(self.words),
            answers=chosen(self.answers),
            groups=chosen(self.groups),
            ids=chosen(self.ids),
        )


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task with its rows."""

    task: Task
    train: Rows
    dev: Rows
    companions: dict[str, Rows] = field(default_factory=dict)
    """Labelled rows of those companions whose files are there, by name."""
    test: dict[str, Rows] = field(default_factory=dict)
    """Rows to answer without labels, by the name of the task or companion, where they were asked for."""
    data_hash: str
    """xxh3-128 of what the rows of train and dev were read from, the whole train set included."""
    companion_hashes: dict[str, str] = field(default_factory=dict)
    """xxh3-128 of what each companion's rows were read from, by name."""
    train_rows_available: int
    """Train rows before any cap."""
    partial: bool = False
    """Whether the files are known to hold a part of the official rows."""

    @property
    def capped(self) -> bool:
        return len(self.train) < self.train_rows_available


def cap_rows(data: TaskData, rows: int | None) -> TaskData:
    """At most `rows` train rows: one subset for a task, whatever the seed of a fine-tuning; None keeps all."""
    if rows is None or rows >= len(data.train):
        return data
    chosen = generator(0, f"finetune/{data.task.name}/rows").permutation(len(data.train))[:rows]
    return replace(data, train=data.train.take(np.sort(chosen)))
