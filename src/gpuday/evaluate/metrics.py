"""Scores of predictions against labels, in numpy; tests hold them to scikit-learn's and scipy's values.

Every function takes (truth [N], predicted [N]) and returns one number, 1 being perfect. N is at least 1.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.int64] | NDArray[np.float64]


def accuracy(truth: Values, predicted: Values) -> float:
    """Share of equal values."""
    return float(np.mean(truth == predicted))


def f1(truth: Values, predicted: Values) -> float:
    """Harmonic mean of precision and recall of class 1; 0 where nothing is, or is called, class 1."""
    hits = int(np.sum((truth == 1) & (predicted == 1)))
    named = int(np.sum(truth == 1)) + int(np.sum(predicted == 1))
    return 2.0 * hits / named if named else 0.0


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
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


def _ranks(values: Values) -> NDArray[np.float64]:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[which], dtype=np.float64)
