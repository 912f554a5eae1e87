"""A long series of numbers made short and smooth enough to be drawn."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def thin(values: list[T], points: int) -> list[T]:
    """At most `points` values at even distances, the first and the last among them."""
    if len(values) <= points:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, points).round().astype(int)]


def smooth(values: list[float], *, half_life: int) -> list[float]:
    """The mean around each value, weights halving every `half_life` values to both sides; NaN is stepped over.

    Both sides, since a mean of the past alone lies above a falling curve.
    """
    past, before = _decayed(values, half_life)
    future, after = (side[::-1] for side in _decayed(values[::-1], half_life))
    present = np.isfinite(values)
    total = past + future - np.where(present, values, 0.0)
    weight = before + after - present
    return [float(t / w) if w > 0 else float("nan") for t, w in zip(total, weight, strict=True)]


def _decayed(values: list[float], half_life: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    decay, total, weight = 0.5 ** (1 / half_life), 0.0, 0.0
    totals, weights = np.zeros(len(values)), np.zeros(len(values))
    for i, value in enumerate(values):
        present = bool(np.isfinite(value))
        total, weight = total * decay + (value if present else 0.0), weight * decay + present
        totals[i], weights[i] = total, weight
    return totals, weights
