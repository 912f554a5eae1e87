"""Learning curves: scores against the share of the training rows that a task was fine-tuned on.

Two models' curves can be laid on one another since a fraction names the same rows for both: which they are depends on the
task alone, neither on the model nor on the seed, and those of a smaller fraction are among those of a larger one.
"""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from gpuday.evaluate.intervals import bca


@dataclass(frozen=True, kw_only=True)
class Point:
    """One fine-tuning."""

    task: str
    fraction: float
    """Share of the train rows, 1 for all."""
    rows: int
    """Train rows that were used."""
    value: float
    """Main metric on dev, a share of 1."""


def curves(points: Iterable[Point]) -> dict[str, list[dict[str, Any]]]:
    """{task: [{"fraction", "rows", "median", "interval", "n", "values"}, ...]}, from the smallest fraction to the largest.

    `interval` is that of the median over seeds, None below three seeds. A task with one fraction has no curve.
    """
    found: dict[str, dict[tuple[float, int], list[float]]] = {}
    for point in points:
        found.setdefault(point.task, {}).setdefault((point.fraction, point.rows), []).append(point.value)
    return {
        task: [_summed(fraction, rows, values) for (fraction, rows), values in sorted(known.items())]
        for task, known in found.items()
        if len(known) > 1
    }


def _summed(fraction: float, rows: int, values: list[float]) -> dict[str, Any]:
    interval = bca(values)
    return {
        "fraction": fraction,
        "rows": rows,
        "median": statistics.median(values),
        "interval": asdict(interval) if interval else None,
        "n": len(values),
        "values": values,
    }
