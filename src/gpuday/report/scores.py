"""The table of downstream scores: median, spread, seeds and baselines of every task, under a stated protocol."""

import statistics
from dataclasses import dataclass
from typing import Any

from gpuday.report import formats
from gpuday.report.formats import percent
from gpuday.report.load import RunRecord

BASELINES = ("majority", "chance", "baseline")


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One task's scores over seeds. `dots` and `marks` are percentages on the strip from 0 to its largest value."""

    name: str
    metric: str
    median: str
    spread: str
    n: int
    values: str
    baselines: str
    rows: str
    version: str
    dots: tuple[float, ...]
    marks: tuple[float, ...]


def tasks(record: RunRecord) -> list[TaskRow]:
    """The table of scores; from the summary, else from the score files of the tasks that are done so far."""
    found = record.section("scores").get("tasks")
    if not isinstance(found, dict) or not found:
        found = _from_files(record)
    return [_task(str(name), v if isinstance(v, dict) else {"median": v}) for name, v in found.items()]


def protocol(record: RunRecord) -> str:
    """Under which rules the models were fine-tuned, with the seeds; empty where nothing was scored."""
    scores = record.section("scores")
    if not scores and not record.scores:
        return ""
    named = formats.text(scores.get("protocol")) if scores.get("protocol") else "protocol not stated"
    seeds = scores.get("seeds")
    return f"{named}; seeds {formats.text(seeds)}" if seeds not in (None, "", []) else named


def _task(name: str, table: dict[str, Any]) -> TaskRow:
    given = table.get("values")
    values = [float(v) for v in given if formats.is_number(v)] if isinstance(given, list) else []
    median = table.get("median", statistics.median(values) if values else None)
    known = {b: table[b] for b in BASELINES if table.get(b) is not None}
    if isinstance(known.get("baseline"), dict):
        known |= known.pop("baseline")
    marks = [float(v) for v in known.values() if formats.is_number(v)]
    # Scores are shares of one or percentages; the strip must hold whichever they are.
    scale = 100.0 if max([*values, *marks, formats.number_or(median, 0.0)], default=0.0) > 1 else 1.0
    return TaskRow(
        name=formats.text(name),
        metric=formats.text(table.get("metric")),
        median=formats.decimals(median),
        spread=f"{min(values):.3f} to {max(values):.3f}" if len(values) > 1 else formats.MISSING,
        n=len(values),
        values=", ".join(f"{v:.3f}" for v in values[:50]),
        baselines=", ".join(f"{formats.clean(str(k))} {formats.decimals(v)}" for k, v in known.items()),
        rows=_rows(table),
        version=formats.text(table.get("version")),
        dots=tuple(percent(v / scale) for v in values),
        marks=tuple(percent(v / scale) for v in marks),
    )


def _rows(table: dict[str, Any]) -> str:
    """How much of a task was used: `8,000 of 67,349 train, 872 dev, partial`."""
    train, available, dev = (table.get(k) for k in ("train_rows", "train_rows_available", "dev_rows"))
    if train is None:
        return formats.MISSING
    of_all = f" of {formats.count(available)}" if available not in (None, train) else ""
    tested = f", {formats.count(dev)} dev" if dev is not None else ""
    return f"{formats.count(train)}{of_all} train{tested}{', partial' if table.get('partial') is True else ''}"


def _from_files(record: RunRecord) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for score in record.scores:
        value = next((score.values[k] for k in ("score", "value") if formats.is_number(score.values.get(k))), None)
        row = found.setdefault(f"{score.suite}/{score.task}", {"values": [], "metric": score.values.get("metric")})
        if value is not None:
            row["values"].append(value)
    return found
