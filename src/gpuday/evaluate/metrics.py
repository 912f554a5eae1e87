"""Scores of predictions against labels, in numpy; tests hold them to scikit-learn's and scipy's values.

The functions of METRICS take (truth [N], predicted [N]) and return one number, 1 being perfect; N is at least 1. Where
scikit-learn or scipy warn and give NaN, since an input is constant, the value here is 0. `measure` knows the metrics that
need more than two arrays as well.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuday.evaluate.answers import exact_match, span_f1
from gpuday.evaluate.entities import entity_f1
from gpuday.evaluate.tasks.rows import Rows
from gpuday.evaluate.tasks.task import Metric, Task

Values = NDArray[np.int64] | NDArray[np.float64]
Predicted = NDArray[np.int64] | NDArray[np.float64] | tuple[str, ...]
"""int64 [N] of classification and choice, float64 [N] of regression, int64 [sum of words] of tagging, N strings of span
("": no answer)."""


def accuracy(truth: Values, predicted: Values) -> float:
    """Share of equal values."""
    return float(np.mean(truth == predicted))


def f1(truth: Values, predicted: Values) -> float:
    """Harmonic mean of precision and recall of class 1; 0 where nothing is, or is called, class 1."""
    return _f1_of(1, truth, predicted)


def macro_f1(truth: Values, predicted: Values) -> float:
    """Mean over the classes that occur in either of the F1 of each."""
    return float(np.mean([_f1_of(c, truth, predicted) for c in np.union1d(truth, predicted)]))


def matthews(truth: Values, predicted: Values) -> float:
    """Matthews correlation for any number of classes (Gorodkin, Comput. Biol. Chem. 28, 2004); 0 if either is constant."""
    classes = np.union1d(truth, predicted)
    true_counts = np.array([np.sum(truth == c) for c in classes], dtype=float)
    named_counts = np.array([np.sum(predicted == c) for c in classes], dtype=float)
    n, correct = float(len(truth)), float(np.sum(truth == predicted))
    spread = (n * n - np.sum(named_counts**2)) * (n * n - np.sum(true_counts**2))
    return float((correct * n - np.dot(true_counts, named_counts)) / math.sqrt(spread)) if spread > 0 else 0.0


def pearson(truth: Values, predicted: Values) -> float:
    """Linear correlation; 0 if either is constant, where it is undefined."""
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return 0.0  # the mean of equal floats may differ from them in the last bit, and that would correlate
    a = np.asarray(truth, dtype=np.float64) - np.mean(truth, dtype=np.float64)
    b = np.asarray(predicted, dtype=np.float64) - np.mean(predicted, dtype=np.float64)
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def spearman(truth: Values, predicted: Values) -> float:
    """Pearson correlation of the ranks, ties sharing their mean rank."""
    return pearson(_ranks(truth), _ranks(predicted))


METRICS: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
    "answer_f1": f1,  # F1a of MultiRC: over all its answers, whatever their question
}


def question_match(truth: Values, predicted: Values, groups: Sequence[str]) -> float:
    """Share of the groups whose rows are all right: the exact match of MultiRC's questions (arXiv 1905.00537)."""
    return float(np.mean([bool(np.all(truth[r] == predicted[r])) for r in _rows_of(groups)]))


def gender_parity(predicted: Values, groups: Sequence[str]) -> float:
    """Share of the groups whose rows are answered alike; AX-g's pairs differ in the gender of one pronoun (arXiv 1804.09301)."""
    return float(np.mean([np.unique(predicted[r]).size == 1 for r in _rows_of(groups)]))


def measure(task: Task, rows: Rows, predicted: Predicted) -> dict[str, float]:
    """The value of each of the task's metrics. `rows` are labelled."""
    return {metric: _value(metric, task, rows, predicted) for metric in task.metrics}


def _value(metric: Metric, task: Task, rows: Rows, predicted: Predicted) -> float:
    if isinstance(predicted, tuple):
        assert rows.answers is not None, "rows of a span task have answers"
        return {"exact_match": exact_match, "span_f1": span_f1}[metric](rows.answers, predicted)
    assert rows.labels is not None, "only labelled rows are measured"
    if metric == "entity_f1":
        assert rows.words is not None, "rows of a tagging task have words"
        lengths = [len(words) for words in rows.words]
        return entity_f1(_tags(task, rows.labels, lengths), _tags(task, predicted, lengths))
    if metric in ("question_match", "gender_parity"):
        assert rows.groups is not None, f"{metric} needs groups"
        if metric == "gender_parity":
            return gender_parity(predicted, rows.groups)
        return question_match(rows.labels, predicted, rows.groups)
    return METRICS[metric](rows.labels, predicted)


def _tags(task: Task, labels: NDArray[Any], lengths: Sequence[int]) -> list[list[str]]:
    ends = np.cumsum(lengths)
    return [[task.classes[i] for i in labels[end - length : end]] for end, length in zip(ends, lengths, strict=True)]


def _rows_of(groups: Sequence[str]) -> list[list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        found[group].append(row)
    return list(found.values())


def _f1_of(label: int, truth: Values, predicted: Values) -> float:
    hits = int(np.sum((truth == label) & (predicted == label)))
    named = int(np.sum(truth == label)) + int(np.sum(predicted == label))
    return 2.0 * hits / named if named else 0.0


def _ranks(values: Values) -> NDArray[np.float64]:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[which], dtype=np.float64)
