"""Learning curves of the downstream tasks: scores against training rows. Names go to the page, numbers alone to its charts."""

from dataclasses import dataclass
from typing import Any

from gpuday.report import formats, scores
from gpuday.report.load import RunRecord

Column = list[float | None]
MOST = 40  # charts; a page with more opens slowly


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One task's curve: words for the page, numbers for its chart."""

    suite: str
    task: str
    described: str
    """In a sentence, for a reader who cannot see the chart."""
    points: tuple[tuple[str, str, str, str, str], ...]
    """(share of the rows, rows, median, interval, seeds) by point, few rows first."""
    chart: dict[str, Column]
    """By point `rows`, `median`, `low` and `high`, None where there is no number; by seed `seed_rows` and `seed_values`."""


def curves(record: RunRecord) -> list[Curve]:
    """The curves of all suites in the order of their tables. What is no list of points is stepped over."""
    found = [
        _curve(suite, str(task), [point for point in points if isinstance(point, dict)])
        for suite, section in scores.sections_on_file(record).items()
        if isinstance(tasks := section.get("curves"), dict)
        for task, points in tasks.items()
        if isinstance(points, list) and any(isinstance(point, dict) for point in points)
    ]
    return found[:MOST]


def _curve(suite: str, task: str, points: list[dict[str, Any]]) -> Curve:
    ends = [p["interval"] if isinstance(p.get("interval"), dict) else {} for p in points]
    seeds = [(p.get("rows"), value) for p in points if isinstance(p.get("values"), list) for value in p["values"]]
    drawn = [(rows, value) for rows, value in seeds if formats.is_number(rows) and formats.is_number(value)]
    shown = tuple(
        (
            formats.share(p.get("fraction"), 4 if formats.number_or(p.get("fraction"), 1.0) < 0.001 else 1),
            formats.count(p.get("rows")),
            formats.decimals(p.get("median")),
            scores.interval(p.get("interval")),
            formats.count(p.get("n")),
        )
        for p in points
    )
    return Curve(
        suite=formats.clean(suite),
        task=formats.clean(task),
        described="; ".join(f"{median} with {rows} training rows" for _, rows, median, _, _ in shown),
        points=shown,
        chart={
            "rows": [_number(p.get("rows")) for p in points],
            "median": [_number(p.get("median")) for p in points],
            "low": [_number(end.get("low")) for end in ends],
            "high": [_number(end.get("high")) for end in ends],
            "seed_rows": [_number(rows) for rows, _ in drawn],
            "seed_values": [_number(value) for _, value in drawn],
        },
    )


def _number(value: Any) -> float | None:
    """Six digits are more than a screen shows."""
    return float(f"{value:.6g}") if formats.is_number(value) else None
