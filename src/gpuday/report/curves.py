"""The numbers behind the charts: columns against seconds, tokens, FLOPs and steps. No text of the run is among them.

plotly reads a small HTML of its own in labels. Since only numbers and our own words reach it, a run's text cannot.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpuday.core.journal import Step, Validation
from gpuday.report.load import RunRecord

Column = list[float | None]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What the x axis may count. `scale` divides the journal's value."""

    key: str
    label: str
    title: str
    scale: float


def axes(record: RunRecord) -> list[Axis]:
    """The axes a reader can choose; the clock's unit follows its length."""
    rows: list[Step | Validation] = [*record.steps, *record.validations]
    seconds = max((row.seconds for row in rows), default=0.0)
    unit, scale = ("hours", 3600.0) if seconds > 7200 else ("minutes", 60.0) if seconds > 180 else ("seconds", 1.0)
    return [
        Axis(key="seconds", label="Time", title=f"{unit} on the clock", scale=scale),
        Axis(key="tokens", label="Tokens", title="tokens read", scale=1.0),
        Axis(key="flops", label="FLOPs", title="useful floating-point operations", scale=1.0),
        Axis(key="step", label="Steps", title="optimizer steps", scale=1.0),
    ]


def curves(record: RunRecord) -> dict[str, Any]:
    """Everything that the page's script draws, as JSON values."""
    known = axes(record)
    steps, looks = record.steps, record.validations
    return {
        "axes": [{"key": a.key, "title": a.title} for a in known],
        "steps": {
            **_positions(steps, known),
            "loss": _column(steps, lambda s: s.loss),
            "smoothed": [_finite(v) for v in record.smoothed],
            "multiplier": _column(steps, lambda s: s.multiplier),
            "rows": _column(steps, lambda s: s.rows),
            "masked": _column(steps, lambda s: s.masked),
        },
        "heldout": {
            **_positions(looks, known),
            "nats": _column(looks, lambda v: v.nats_per_token),
            "rows": _column(looks, lambda v: v.rows),
            "final": [v.final for v in looks],
        },
        "resumes": _positions(_resumed_after(record), known),
        "half_life": record.half_life,
    }


def describe(record: RunRecord) -> dict[str, str]:
    """The charts in a sentence each, for a reader who cannot see them."""
    losses = [v for v in record.smoothed if math.isfinite(v)]
    loss = f"Training loss goes from {losses[0]:.3f} to {losses[-1]:.3f} nats" if losses else "No training loss yet"
    looks = [v.nats_per_token for v in record.validations if math.isfinite(v.nats_per_token)]
    if looks:
        loss += f"; held-out loss from {looks[0]:.3f} to {looks[-1]:.3f} nats over {len(looks)} looks"
    if not record.steps:
        return {"loss": f"{loss}.", "schedule": "No step was made yet."}
    first, last = record.steps[0], record.steps[-1]
    schedule = (
        f"Rate multiplier from {first.multiplier:.3g} to {last.multiplier:.3g}, rows in a step from {first.rows} to "
        f"{last.rows}, predicted tokens in a step from {first.masked} to {last.masked}."
    )
    return {"loss": f"{loss}.", "schedule": schedule}


def kinds(record: RunRecord) -> str:
    """That losses of several kinds of steps stand in one curve, in brackets; empty where there is one kind."""
    several = len({step.question for step in record.steps}) > 1
    return " (steps were of several kinds, whose losses do not compare)" if several else ""


def _resumed_after(record: RunRecord) -> list[Step]:
    """The steps after which a later attempt continued; an attempt that began anew is not among them."""
    starts = [start.step for attempt, start in record.attempts if attempt > 1 and start.step > 0]
    return [max((s for s in record.steps if s.step <= at), key=lambda s: s.step, default=record.steps[0])
            for at in starts if record.steps]  # fmt: skip


def _positions(rows: Sequence[Step | Validation], known: list[Axis]) -> dict[str, Column]:
    return {a.key: [_finite(getattr(row, a.key) / a.scale) for row in rows] for a in known}


def _column(rows: Sequence[Any], value: Callable[[Any], float]) -> Column:
    return [_finite(value(row)) for row in rows]


def _finite(value: float) -> float | None:
    """Six digits are more than a screen shows; NaN becomes a gap in the curve."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
