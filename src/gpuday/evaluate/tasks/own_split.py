"""A tenth of the rows of a task that has no dev file, chosen by the hash of their texts."""

from collections import Counter, defaultdict

import numpy as np
import xxhash
from numpy.typing import NDArray

from gpuday.core.errors import DataError
from gpuday.core.seeds import stream_seed
from gpuday.evaluate.tasks.rows import Rows
from gpuday.evaluate.tasks.task import Task

DEV_SHARE = 0.1


def dev_rows(rows: Rows, task: Task) -> NDArray[np.bool_]:
    """Which rows [N] are dev. Rows of one text are on the same side, whatever its letters' case and its blanks; of a span
    the context is the text, of a pair the first text, unless a tenth of all rows have that one. Of each class the texts
    with the smallest hashes are taken, a tenth of its rows and at least one text where the class has two; a regression, a
    tagging and a span count as one class. A text that has more rows than are wanted is passed over, and taken only if the
    class has no other; a tenth then is that of the rows beside it. A row's place in the file does not matter.

    Raises DataError where all rows have one text.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(_texts(rows, task)):
        members[text].append(i)
    if len(members) < 2:
        raise DataError("all rows have the same text", where="--task", fix="name the column with the texts")
    labels = rows.labels if task.kind == "classification" and rows.labels is not None else np.zeros(len(rows), np.int64)
    by_class: dict[int, list[str]] = defaultdict(list)
    for text, found in members.items():
        by_class[int(labels[min(found, key=lambda i: labels[i])])].append(text)
    seed = stream_seed(0, "own/split")
    dev = np.zeros(len(rows), dtype=np.bool_)
    for texts in by_class.values():
        texts.sort(key=lambda text: (xxhash.xxh3_64_intdigest(text.encode(), seed), text))
        for text in _taken({text: len(members[text]) for text in texts}):
            dev[members[text]] = True
    _train_every_label(dev, labels, members)
    if not dev.any():
        raise DataError("no class has two different texts", where="--task", fix="give more rows, or --dev FILE")
    return dev


def _taken(rows: dict[str, int]) -> list[str]:
    """The texts of a class that are dev, of all {text: its rows} in the order in which they are taken; one always trains."""
    if len(rows) < 2:
        return []
    most = DEV_SHARE * sum(rows.values())
    wanted, taken = max(1, round(DEV_SHARE * sum(n for n in rows.values() if n <= most))), list[str]()
    for text, count in rows.items():
        if count <= wanted:
            taken.append(text)
            wanted -= count
    return taken or [min(rows, key=rows.__getitem__)]


def folded(text: str) -> str:
    """The text without what makes two texts differ though they say the same: case and blanks."""
    return " ".join(text.casefold().split())


def _train_every_label(dev: NDArray[np.bool_], labels: NDArray[np.int64], members: dict[str, list[int]]) -> None:
    """Give back to train the texts whose rows hold a label that no train row has: a text may come with two labels."""
    for found in members.values():
        if dev[found[0]] and not np.isin(labels[found], labels[~dev]).all():
            dev[found] = False


def _texts(rows: Rows, task: Task) -> list[str]:
    if task.kind == "span":
        assert rows.text_b is not None, "rows of a span task have contexts"
        return list(map(folded, rows.text_b))
    first = list(map(folded, rows.text_a))
    if rows.text_b is None:
        return first
    # A first text of very many rows is no premise but a subject, and would fill a side by itself.
    counts, most = Counter(first), DEV_SHARE * len(rows)
    return [a if counts[a] <= most else f"{a}\x1f{folded(b)}" for a, b in zip(first, rows.text_b, strict=True)]
