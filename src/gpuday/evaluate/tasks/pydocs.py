"""The offline task: from which installed package does a docstring come? Labels are free, nothing is downloaded.

The classes are the largest packages of this environment, so that scores compare only where `data_hash` is equal.
Train and dev share no second-level module. The names of all classes are replaced in every text: the bare name would
give the answer away, and the absence of one's own name as well. What remains is vocabulary, which a bag of words reads
well: its score stands beside every score here. Pretraining may have read the same docstrings, without labels; that is
allowed, as it is for any task whose texts are public, and is to be said wherever the number is shown.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import xxhash

from gpuday.core.errors import DataError
from gpuday.data.sources.pydocs import docstring_items
from gpuday.evaluate.tasks.rows import Rows, TaskData
from gpuday.evaluate.tasks.task import Task

PYDOCS = Task(name="pydocs", suite="pydocs", citation="this project", in_mean=False)
STAND_IN = "package"
ALIASES = {
    "numpy": ("np",),
    "plotly": ("plotly.js",),
    "python": ("cpython",),
    "sklearn": ("scikit-learn", "scikit_learn", "scikits"),
    "torch": ("pytorch",),
    "transformers": ("huggingface", "hugging face"),
}


@dataclass(frozen=True, kw_only=True)
class PydocsConfig:
    """Size of the task. The defaults fine-tune at nano in about a minute of one CPU core."""

    classes: int = 10
    """Packages at most, the largest ones."""
    train_per_class: int = 200
    """Train rows of a package at most."""
    dev_per_class: int = 60
    """Dev rows of a package at most."""
    groups: int = 8
    """Module groups that a package must have to be a class; fewer cannot be split fairly."""
    least_words: int = 8
    """Shorter texts are left out."""
    most_words: int = 40
    """Longer texts are cut."""


def load(config: PydocsConfig = PydocsConfig()) -> TaskData:
    """The task of this environment. Raises DataError where fewer than two packages are large enough."""
    return build(docstring_items(), config)


def build(items: Iterable[tuple[str, str, str]], config: PydocsConfig = PydocsConfig()) -> TaskData:
    """The task from (package, module group, text) items; the same items give the same rows."""
    by_package: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for package, group, text in items:
        words = text.split()
        if len(words) >= config.least_words:
            by_package[package][group].append(" ".join(words[: config.most_words]))
    large = [p for p, groups in by_package.items() if len(groups) >= config.groups]
    large.sort(key=lambda p: (-sum(map(len, by_package[p].values())), p))
    # A few classes of very unlike size would make the majority baseline the task: a class fills at least half its rows.
    rows = {p: split(by_package[p], config) for p in large}
    classes = sorted(
        [p for p in large if 2 * len(rows[p][0]) >= config.train_per_class and rows[p][1]][: config.classes]
    )
    if len(classes) < 2:
        raise DataError(
            f"{len(classes)} installed package(s) have enough docstrings for the pydocs task",
            fix="install more packages, or name other tasks with --tasks and --task-data",
        )
    names = name_pattern(classes)
    seen: set[str] = set()
    train, dev = (_labelled([rows[c][part] for c in classes], names, seen) for part in (0, 1))
    assert train.labels is not None and dev.labels is not None
    everything = json.dumps([classes, train.text_a, train.labels.tolist(), dev.text_a, dev.labels.tolist()])
    return TaskData(
        task=replace(PYDOCS, classes=tuple(classes)),
        train=train,
        dev=dev,
        data_hash=xxhash.xxh3_128_hexdigest(everything.encode("utf-8", "surrogatepass")),
        train_rows_available=len(train),
    )


def split(groups: dict[str, list[str]], config: PydocsConfig) -> tuple[list[str], list[str]]:
    """(train, dev) texts of a package, no module group in both and a group filling a quarter of either at most, if there are four."""
    ordered = sorted(groups, key=lambda g: (_hash(g), g))
    biggest = max(ordered, key=lambda g: (len(groups[g]), g))
    # The largest group trains; every fourth of the others is dev, so that both sides see several.
    held = [g for i, g in enumerate(g for g in ordered if g != biggest) if i % 4 == 0]
    parts = ([g for g in ordered if g not in held], config.train_per_class), (held, config.dev_per_class)
    train, dev = (_drawn([groups[g] for g in chosen], rows) for chosen, rows in parts)
    return train, dev


def name_pattern(classes: Iterable[str]) -> re.Pattern[str]:
    """Matches the classes' names and their other spellings; a long name also where it begins a word (TorchScript)."""
    names = sorted({n for c in classes for n in (c, c.replace("_", " "), *ALIASES.get(c, ()))}, key=len, reverse=True)
    parts = [re.escape(n) + ("" if len(n) > 3 else "(?![a-z0-9])") for n in names]
    return re.compile(f"(?<![a-z])(?:{'|'.join(parts)})", re.IGNORECASE)


def _drawn(groups: list[list[str]], rows: int) -> list[str]:
    most = max(rows // 4, -(-rows // max(1, len(groups))))
    texts = [t for group in groups for t in sorted(set(group), key=_hash)[:most]]
    return sorted(texts, key=_hash)[:rows]


def _labelled(by_class: list[list[str]], names: re.Pattern[str], seen: set[str]) -> Rows:
    """Rows of all classes, names replaced; a text that occurred before, in whatever class or part, is left out."""
    texts, labels = [], []
    for label, raw in enumerate(by_class):
        for text in raw:
            plain = names.sub(STAND_IN, text)
            if plain not in seen:
                seen.add(plain)
                texts.append(plain)
                labels.append(label)
    return Rows(text_a=tuple(texts), text_b=None, labels=np.array(labels, dtype=np.int64))


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
