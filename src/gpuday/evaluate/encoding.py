"""Rows of every kind of task as tokens on the device, made once for all seeds.

Shapes: N rows, M token rows, L tokens at most in a token row, W words.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuday.evaluate.buckets import IGNORED, Encoded
from gpuday.evaluate.checking import check, longest_row
from gpuday.evaluate.protocols import Protocol
from gpuday.evaluate.reading import Reader, Tokens
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.tasks.rows import Rows, TaskData
from gpuday.evaluate.tasks.task import Task

BLOCK = 4096  # rows that are tokenized together: their tokens are far larger as lists than as arrays
OVERLAP = 3  # neighbouring windows share one part in so many
NOTHING: NDArray[Any] = np.empty(0, dtype=np.int32)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Where the token rows of a span task come from."""

    row: NDArray[np.int64]
    """[M], the row of each window."""
    characters: NDArray[np.int32]
    """[M, L, 2], first and one-past-last character of each token in its own text."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Rows that are answered, and what turns scores of tokens back into answers."""

    rows: Rows
    encoded: Encoded
    words: NDArray[np.int64] | None = None
    """Tagging: [W], place of each word's first token in the flattened N L; -1 where the length cut it off."""
    windows: Windows | None = None
    """Of a span task."""

    @property
    def unread_words(self) -> int:
        return 0 if self.words is None else int((self.words < 0).sum())


@dataclass(frozen=True, kw_only=True)
class EncodedTask:
    """A task on the device."""

    train: Encoded
    asked: dict[str, Asked]
    """The rows to answer, by name: the task's own is its dev set, then its companions', then `test:<name>`."""


class Reads(Interface):
    """What rows become tokens for: a subject, or a fine-tuned model that was kept."""

    @property
    def reader(self) -> Reader: ...

    @property
    def device(self) -> torch.device: ...


def encode_task(subject: Subject, data: TaskData, protocol: Protocol) -> EncodedTask:
    """The rows of a task as tokens on the device, after `check`."""
    check(subject, data, protocol)
    longest = longest_row(subject, protocol)
    parts = {data.task.name: data.dev, **data.companions, **{f"test:{n}": r for n, r in data.test.items()}}
    train, *asked = (encode(subject, data.task, rows, longest) for rows in (data.train, *parts.values()))
    return EncodedTask(train=train.encoded, asked=dict(zip(parts, asked, strict=True)))


def encode(subject: Reads, task: Task, rows: Rows, longest: int) -> Asked:
    """Rows as tokens, at most `longest` in a token row."""
    if task.kind == "tagging":
        return _tagging(subject, rows, longest)
    if task.kind == "span":
        return _span(subject, rows, longest)
    if task.kind == "choice":
        return Asked(rows=rows, encoded=_choice(subject, task, rows, longest))
    second = rows.text_b
    tokens = _blocks(
        len(rows),
        lambda at: subject.reader.pairs(rows.text_a[at], None if second is None else second[at], longest),
    )
    return Asked(rows=rows, encoded=_encoded(subject, list(tokens), rows.labels))


def _choice(subject: Reads, task: Task, rows: Rows, longest: int) -> Encoded:
    options = rows.options or ()
    first = [text for text in rows.text_a for _ in range(task.options)]
    second = [option for candidates in options for option in candidates]
    tokens = _blocks(len(first), lambda at: subject.reader.pairs(first[at], second[at], longest))
    return _encoded(subject, list(tokens), rows.labels, candidates=task.options)


def _tagging(subject: Reads, rows: Rows, longest: int) -> Asked:
    given = rows.words or ()
    places, tokens = list[NDArray[np.int64]](), list[_Arrays]()
    for arrays, words in zip(
        _blocks(len(rows), lambda at: subject.reader.words(given[at], longest)), given, strict=True
    ):
        word_of = arrays.word_of
        firsts = np.flatnonzero((word_of >= 0) & (word_of != np.concatenate(([-1], word_of[:-1]))))
        place = np.full(len(words), -1, dtype=np.int64)
        place[word_of[firsts][::-1]] = firsts[::-1]  # a word's first token is the last that is written
        places.append(place)
        tokens.append(arrays)
    width = max(len(t.ids) for t in tokens)
    flat = np.concatenate([np.where(place < 0, -1, place + i * width) for i, place in enumerate(places)])
    labels = None
    if rows.labels is not None:
        table = np.full(len(rows) * width, IGNORED, dtype=np.int64)
        table[flat[flat >= 0]] = rows.labels[flat >= 0]
        labels = table.reshape(-1, width)
    return Asked(rows=rows, encoded=_encoded(subject, tokens, labels), words=flat)


def _span(subject: Reads, rows: Rows, longest: int) -> Asked:
    contexts = rows.text_b or ()
    tokens, row = list[_Arrays](), list[int]()
    for start in range(0, len(rows), BLOCK):
        at = slice(start, start + BLOCK)
        found = subject.reader.windows(rows.text_a[at], contexts[at], longest, longest // OVERLAP)
        for number, windows in enumerate(found, start=start):
            tokens += [_Arrays.of(w) for w in windows]
            row += [number] * len(windows)
    owners = np.array(row, dtype=np.int64)
    characters = padded([t.spans for t in tokens], 0, np.int32)
    context = padded([t.second for t in tokens], 0, np.bool_)
    labels = None if rows.labels is None else answer_tokens(characters, context, rows.labels[owners])
    encoded = _encoded(subject, tokens, labels, context=context)
    return Asked(rows=rows, encoded=encoded, windows=Windows(row=owners, characters=characters))


def answer_tokens(
    characters: NDArray[np.int32], context: NDArray[np.bool_], answers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """First and last token [M, 2] of answers given as characters [M, 2]; (0, 0) for those that a window does not hold
    whole, and for those that are none, (-1, -1)."""
    start, stop = characters[..., 0], characters[..., 1]
    first, end = answers[:, :1], answers[:, 1:]
    reaches = context & (stop > first)
    begins = context & (start < end)
    tokens = np.stack((reaches.argmax(1), context.shape[1] - 1 - begins[:, ::-1].argmax(1)), axis=1)
    lowest = np.where(context, start, np.iinfo(np.int32).max).min(1)
    highest = np.where(context, stop, -1).max(1)
    inside = (answers[:, 0] >= 0) & (lowest <= answers[:, 0]) & (highest >= answers[:, 1])
    return np.where((inside & reaches.any(1) & begins.any(1))[:, None], tokens, 0).astype(np.int64)


@dataclass(frozen=True)
class _Arrays:
    """One token row; arrays are a tenth of the lists that they are made of."""

    ids: NDArray[np.int32]
    types: NDArray[np.int8] | None
    word_of: NDArray[np.int32]
    spans: NDArray[np.int32]
    second: NDArray[np.bool_]

    @classmethod
    def of(cls, tokens: Tokens) -> "_Arrays":
        spans = np.array(tokens.spans, dtype=np.int32).reshape(-1, 2) if tokens.spans else NOTHING
        return cls(
            np.array(tokens.ids, dtype=np.int32),
            None if tokens.types is None else np.array(tokens.types, dtype=np.int8),
            np.array(tokens.word_of, dtype=np.int32) if tokens.word_of else NOTHING,
            spans,
            np.array(tokens.second, dtype=np.bool_) if tokens.second else NOTHING,
        )


def padded(rows: Sequence[NDArray[Any]], fill: int, dtype: type[Any]) -> NDArray[Any]:
    """Rows [l, ...] of unlike length as one array [M, L, ...]."""
    table = np.full((len(rows), max(map(len, rows)), *rows[0].shape[1:]), fill, dtype=dtype)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def _blocks(count: int, read: Callable[[slice], Sequence[Tokens]]) -> Iterator[_Arrays]:
    for start in range(0, count, BLOCK):
        yield from map(_Arrays.of, read(slice(start, start + BLOCK)))


def _encoded(
    subject: Reads,
    tokens: Sequence[_Arrays],
    labels: NDArray[Any] | None,
    *,
    candidates: int = 1,
    context: NDArray[np.bool_] | None = None,
) -> Encoded:
    lengths = np.array([len(t.ids) for t in tokens], dtype=np.int64)
    types = [t.types for t in tokens if t.types is not None]

    def placed(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(subject.device)

    targets = None if labels is None else placed(labels)
    return Encoded(
        ids=placed(padded([t.ids for t in tokens], subject.reader.pad_id, np.int32)),
        lengths=placed(lengths),
        host_lengths=lengths.reshape(-1, candidates).max(1),
        labels=targets if targets is None or targets.dtype == torch.int64 else targets.float(),
        types=placed(padded(types, 0, np.int8)) if types else None,
        context=None if context is None else placed(context),
        candidates=candidates,
    )
