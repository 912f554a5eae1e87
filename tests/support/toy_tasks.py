"""A tiny task of every kind, each of which says where among some words an animal or a fruit stands."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpuday.evaluate.tasks.rows import Rows, TaskData
from gpuday.evaluate.tasks.task import Kind, Task

WORDS = [
    "the",
    "quick",
    "brown",
    "river",
    "people",
    "watch",
    "from",
    "bridge",
    "tree",
    "behind",
    "yellow",
    "house",
    "falls",
    "garden",
    "every",
    "circuit",
]
ANIMAL, FRUIT = "zebra", "mango"


def texts_with(words: NDArray[np.int64], draw: np.random.Generator) -> tuple[list[list[str]], list[int]]:
    """Texts of 3 to 6 words, FRUIT (0) or ANIMAL (1) at the place that is returned with each."""
    texts, places = [], []
    for word in words:
        text = draw.choice(WORDS, int(draw.integers(2, 6))).tolist()
        places.append(int(draw.integers(len(text) + 1)))
        text.insert(places[-1], (FRUIT, ANIMAL)[word])
        texts.append(text)
    return texts, places


def classification(count: int, seed: int) -> Rows:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    texts, _ = texts_with(labels, draw)
    return Rows(text_a=tuple(map(" ".join, texts)), text_b=None, labels=labels)


def regression(count: int, seed: int) -> Rows:
    rows = classification(count, seed)
    assert rows.labels is not None
    return Rows(text_a=rows.text_a, text_b=rows.text_a[::-1], labels=5.0 * rows.labels)


def choice(count: int, seed: int) -> Rows:
    """The candidate with the animal is right; the other two have the fruit."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    options = []
    for label in labels:
        texts, _ = texts_with((np.arange(3) == label).astype(np.int64), draw)
        options.append(tuple(map(" ".join, texts)))
    return Rows(text_a=("which",) * count, text_b=None, labels=labels, options=tuple(options))


def tagging(count: int, seed: int) -> Rows:
    """The animal is tagged 1, all else 0."""
    draw = np.random.default_rng(seed)
    texts, _ = texts_with(draw.integers(0, 2, count), draw)
    labels = np.array([int(word == ANIMAL) for text in texts for word in text], dtype=np.int64)
    return Rows(text_a=tuple(map(" ".join, texts)), text_b=None, labels=labels, words=tuple(map(tuple, texts)))


def span(count: int, seed: int, *, absent: bool = False) -> Rows:
    """The animal is the answer; where `absent`, every third context has none."""
    draw = np.random.default_rng(seed)
    kinds = np.array([int(not absent or i % 3 > 0) for i in range(count)])
    texts, places = texts_with(kinds, draw)
    starts = [len(" ".join([*text[:place], ""])) for text, place in zip(texts, places, strict=True)]
    labels = np.array(
        [(s, s + len(ANIMAL)) if kind else (-1, -1) for s, kind in zip(starts, kinds, strict=True)], dtype=np.int64
    )
    return Rows(
        text_a=("the people watch",) * count,
        text_b=tuple(map(" ".join, texts)),
        labels=labels,
        answers=tuple((ANIMAL,) if kind else () for kind in kinds),
    )


TASKS: dict[Kind, tuple[Task, Callable[[int, int], Rows]]] = {
    "classification": (Task(name="words", suite="toy", classes=(FRUIT, ANIMAL)), classification),
    "regression": (Task(name="values", suite="toy", kind="regression", pair=True, metrics=("pearson",)), regression),
    "choice": (Task(name="candidates", suite="toy", kind="choice", options=3), choice),
    "tagging": (Task(name="tags", suite="toy", kind="tagging", classes=("O", "B-ANIMAL")), tagging),
    "span": (Task(name="answers", suite="toy", kind="span", pair=True, metrics=("exact_match", "span_f1")), span),
}


def toy(kind: Kind, *, train: int = 48, dev: int = 24) -> TaskData:
    """So many rows of a task of the kind."""
    task, rows = TASKS[kind]
    return TaskData(task=task, train=rows(train, 0), dev=rows(dev, 1), data_hash="0", train_rows_available=train)
