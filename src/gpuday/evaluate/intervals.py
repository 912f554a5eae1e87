"""Intervals of scores: over the seeds of one fine-tuning, and over the rows of one dev set. Two questions, two functions.

`bca` says how far the median would move with other seeds; `rows_interval` how far one model's score would move with
another dev set of that size. BCa: Efron, JASA 82, 1987, as scipy computes it.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuday.core.seeds import generator
from gpuday.evaluate.answers import exact_match, span_f1
from gpuday.evaluate.entities import entities
from gpuday.evaluate.metrics import METRICS, Predicted
from gpuday.evaluate.tasks.rows import Rows
from gpuday.evaluate.tasks.task import Task

LEAST_SEEDS = 3  # two values span an interval of any width
RESAMPLES = 9_999
ROW_RESAMPLES = 1_000
CONFIDENCE = 0.95
AT_ONCE = 1 << 22  # counts in memory: resamples times kinds of rows

Statistic = Callable[..., Any]
"""(sample [..., n], ..., axis=-1) -> [...]; one array for each sample that `bca` is given."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Two ends, and how they were found."""

    low: float
    high: float
    confidence: float
    """The share of such intervals that was asked to hold the true value, which a bootstrap of many values comes near to; of
    the median of n values at most the share that their whole range holds: 1 - 2**(1 - n)."""
    method: str
    """BCa; percentile, where BCa is not defined for these values; constant, where all values are equal; behind a comma what
    was resampled: rows, groups, documents."""
    n: int
    """Values, rows or groups that were drawn from; of two samples the smaller."""


def bca(
    *samples: Sequence[float],
    statistic: Statistic = np.median,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval | None:
    """The bias-corrected and accelerated bootstrap interval of a statistic of one sample, or of several independent ones.

    None where a sample has fewer than 3 values. An interval of few seeds is rough: of 5 it reaches from the least to the
    largest nearly always, which holds the true median in 94% of cases; of 3 it does so mostly, and no more than 75% can
    hold it. Its `confidence` says so; that of several samples, of a mean or of equal values is what was asked for: of two
    models' medians `comparison.most_confidence` says what it can be.
    """
    least = min(len(sample) for sample in samples)
    if least < LEAST_SEEDS:
        return None
    if all(min(sample) == max(sample) for sample in samples):
        value = float(statistic(*(np.asarray(sample[:1]) for sample in samples), axis=-1))
        return Interval(low=value, high=value, confidence=confidence, method="constant", n=least)
    # Imported here: scipy.stats takes a second, and who asks for no interval should not wait for it.
    from scipy.stats import DegenerateDataWarning, bootstrap

    options: dict[str, Any] = {"confidence_level": confidence, "n_resamples": RESAMPLES, "vectorized": True}
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)  # answered below
        found = bootstrap(samples, statistic, rng=generator(seed, "bca"), method="BCa", **options)
    method = "BCa"
    if not np.isfinite(found.confidence_interval).all():
        # Equal jackknife values have no skewness to correct by; the percentiles of the resamples need none.
        found = bootstrap(samples, statistic, rng=generator(seed, "bca"), method="percentile", **options)
        method = "percentile"
    low, high = map(float, found.confidence_interval)
    if statistic is np.median:
        # The median lies outside of all n values where all are above it, or all below: each in 2**-n of cases.
        confidence = min(confidence, 1 - 2.0 ** (1 - least))
    return Interval(low=low, high=high, confidence=confidence, method=method, n=least)


def rows_interval(
    task: Task, rows: Rows, predicted: Predicted, *, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval | None:
    """The interval of the main metric of one model's answers over dev sets that might have been drawn instead of `rows`.

    Percentiles of 1,000 resamples of the rows, or of the groups where rows have them. It is the sampling error of the dev
    set, and says nothing of other seeds. None where there is one row or group, or the metric is not known here.
    """
    draws = generator(seed, f"rows/{task.name}")
    groups = None if rows.groups is None else np.unique(rows.groups, return_inverse=True)[1]
    n = len(rows) if groups is None else int(groups.max()) + 1
    if n < 2:
        return None
    values = _resampled_values(task, rows, predicted, groups, draws)
    if values is None:
        return None
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    method = "percentile, rows" if groups is None else "percentile, groups"
    return Interval(low=low, high=high, confidence=confidence, method=method, n=n)


def ratio_interval(
    parts: NDArray[np.float64], what: str, *, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval | None:
    """The interval of sum(a) / sum(b) over units that might have been drawn instead of these; parts [N, 2] = (a, b) of each.

    Percentiles of 1,000 resamples of whole units, called `what`: rows of which several belong to a unit are no news of each
    other. None below 3 units.
    """
    if len(parts) < LEAST_SEEDS:
        return None
    draws = generator(seed, f"ratio/{what}")
    values = _ratio(_drawn(parts, np.ones(len(parts), dtype=np.int64), draws))
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return Interval(low=low, high=high, confidence=confidence, method=f"percentile, {what}", n=len(parts))


def _resampled_values(
    task: Task, rows: Rows, predicted: Predicted, groups: NDArray[np.int64] | None, draws: np.random.Generator
) -> NDArray[np.float64] | None:
    """The main metric in each resample [R]. Resamples are counts of kinds of rows: no row is copied."""
    if isinstance(predicted, tuple):
        assert rows.answers is not None, "rows of a span task have answers"
        score = {"exact_match": exact_match, "span_f1": span_f1}[task.main]
        best = [score([accepted], [named]) for accepted, named in zip(rows.answers, predicted, strict=True)]
        return _ratio(_drawn(*_kinds(np.stack([best, np.ones(len(rows))], axis=1), groups), draws))
    truth = rows.labels
    assert truth is not None, "only labelled rows are measured"
    if rows.words is not None:
        lengths = [len(words) for words in rows.words]
        if task.main == "entity_f1":
            parts = _of_tags(task, lengths, truth, predicted)
        else:
            parts = _of_words(lengths, truth, predicted)
        return _ratio(_drawn(*_kinds(parts, groups), draws))
    if task.main in OF_CELLS:
        (classes, named), cell = np.unique(np.stack([truth, predicted]), axis=1, return_inverse=True)
        each = np.eye(len(classes))
        contents, times = (each, np.bincount(cell)) if groups is None else _kinds(each[cell], groups)
        return OF_CELLS[task.main](_drawn(contents, times, draws), classes, named)
    if task.main == "question_match" and groups is not None:
        wrong = np.bincount(groups, weights=truth != predicted)
        return _ratio(_drawn(*_kinds(np.stack([wrong == 0, np.ones_like(wrong)], axis=1), None), draws))
    if task.main == "pearson":
        # Centred, so that the sums of squares keep their digits.
        x, y = (np.asarray(v, dtype=np.float64) - np.mean(v, dtype=np.float64) for v in (truth, predicted))
        sums = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
        return _pearson(_drawn(*_kinds(sums, groups), draws))
    if task.main == "spearman" and groups is None:  # ranks are no sums
        numbers = draws.integers(len(rows), size=(ROW_RESAMPLES, len(rows)))
        return np.array([METRICS[task.main](truth[drawn], predicted[drawn]) for drawn in numbers])
    return None


def _kinds(table: NDArray[Any], groups: NDArray[np.int64] | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The different rows [K, M] of a table [N, M], summed by group where there are groups, and how often each occurs."""
    if groups is not None:
        summed = np.zeros((int(groups.max()) + 1, table.shape[1]))
        np.add.at(summed, groups, table)
        table = summed
    return np.unique(table, axis=0, return_counts=True)


def _drawn(contents: NDArray[Any], times: NDArray[np.int64], draws: np.random.Generator) -> NDArray[np.float64]:
    """Sums [R, M] of the contents [K, M] over resamples of as many as there are, kind k being there `times[k]` times."""
    n, at_once = int(times.sum()), max(1, AT_ONCE // len(times))
    sizes = [min(at_once, ROW_RESAMPLES - done) for done in range(0, ROW_RESAMPLES, at_once)]
    return np.concatenate([draws.multinomial(n, times / n, size=size) @ contents for size in sizes])


def _ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R] from (part, whole) [R, 2]; 0 where the whole is."""
    return np.divide(sums[:, 0], sums[:, 1], out=np.zeros(len(sums)), where=sums[:, 1] != 0)


def _of_words(lengths: Sequence[int], truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
    """(words that are right, words) [N, 2]"""
    row = np.repeat(np.arange(len(lengths)), lengths)
    right = np.bincount(row, weights=truth == predicted, minlength=len(lengths))
    return np.stack([right, np.asarray(lengths, dtype=float)], axis=1)


def _of_tags(task: Task, lengths: Sequence[int], truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
    """(twice the entities found, entities in the labels and in the answer) [N, 2], whose ratio is the F1"""
    ends = np.cumsum(lengths)[:-1]
    sentences = zip(np.split(truth, ends), np.split(predicted, ends), strict=True)
    pairs = [[set(entities([task.classes[i] for i in tags])) for tags in both] for both in sentences]
    return np.array([(2.0 * len(wanted & named), len(wanted) + len(named)) for wanted, named in pairs])


def _accuracy(counts: NDArray[np.float64], truth: NDArray[Any], named: NDArray[Any]) -> NDArray[np.float64]:
    return counts[:, truth == named].sum(axis=1) / counts.sum(axis=1)


def _f1(counts: NDArray[np.float64], truth: NDArray[Any], named: NDArray[Any], label: int = 1) -> NDArray[np.float64]:
    hits = counts[:, (truth == label) & (named == label)].sum(axis=1)
    of_label = counts[:, truth == label].sum(axis=1) + counts[:, named == label].sum(axis=1)
    return _ratio(np.stack([2.0 * hits, of_label], axis=1))


def _macro_f1(counts: NDArray[np.float64], truth: NDArray[Any], named: NDArray[Any]) -> NDArray[np.float64]:
    classes = np.union1d(truth, named).tolist()
    there = np.stack([counts[:, (truth == c) | (named == c)].any(axis=1) for c in classes])
    return np.sum([_f1(counts, truth, named, c) for c in classes], axis=0) / there.sum(axis=0)


def _matthews(counts: NDArray[np.float64], truth: NDArray[Any], named: NDArray[Any]) -> NDArray[np.float64]:
    classes = np.union1d(truth, named)
    n, correct = counts.sum(axis=1), counts[:, truth == named].sum(axis=1)
    true_counts, named_counts = (counts @ (cells[:, None] == classes).astype(float) for cells in (truth, named))
    spread = (n**2 - (named_counts**2).sum(axis=1)) * (n**2 - (true_counts**2).sum(axis=1))
    return _ratio(np.stack([correct * n - (true_counts * named_counts).sum(axis=1), np.sqrt(spread)], axis=1))


def _pearson(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the sums [R, 6] of 1, x, y, x x, y y, x y."""
    n, x, y, xx, yy, xy = sums.T
    spread = np.maximum(0.0, n * xx - x * x) * np.maximum(0.0, n * yy - y * y)
    return _ratio(np.stack([n * xy - x * y, np.sqrt(spread)], axis=1))


# (counts [R, T] of the cells, their labels [T], what they were called [T]) -> [R]
OF_CELLS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "answer_f1": _f1,
    "macro_f1": _macro_f1,
    "matthews": _matthews,
}
