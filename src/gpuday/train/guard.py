"""Which updates are not made: those that are not finite, and those far out of line with the steps before."""

import math
import statistics
from collections.abc import Sequence

WINDOW = 16  # updates that were made lately: what the medians are taken over
LEAST = 8  # fewer say nothing yet


def not_finite(loss: float, norm: float) -> str:
    """Which of a step's loss and global gradient norm is not finite, in words; empty where both are."""
    for name, value in (("loss", loss), ("gradient norm", norm)):
        if not math.isfinite(value):
            return f"{name} is not finite"
    return ""


def refusal(loss: float, norm: float, *, losses: Sequence[float], norms: Sequence[float], spike: float) -> str:
    """Why an update with this loss and norm must not be made, in words; empty where it may.

    `losses` and `norms` are those of the latest updates, oldest first. More than `spike` times their median is too much;
    0 allows all that is finite. A median of nothing gives no measure.
    """
    if reason := not_finite(loss, norm):
        return reason
    for name, value, seen in (("loss", loss, losses), ("gradient norm", norm, norms)):
        if not spike or len(seen) < LEAST:
            continue
        usual = statistics.median(seen[-WINDOW:])
        if usual > 0.0 and value > spike * usual:
            return f"{name} is {value / usual:,.0f} times its median over the latest {len(seen[-WINDOW:])} updates"
    return ""
