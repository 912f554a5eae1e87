"""The one rule by which every schedule is put together from a warm-up, a shape of its own and a cool-down.

Let x be the used fraction of the budget, held in [0, 1], w the warm-up's share and c the cool-down's.

1. The shape runs from the end of the warm-up to the deadline, as if there were no cool-down: shape((x - w) / (1 - w)).
2. The warm-up is a factor on the shape's first value that rises in a straight line from 0 to 1: shape(0) * x / w.
3. The cool-down cuts the shape off at 1 - c and leads from the value that it has there to `end`, which is reached
   exactly at the deadline, along a straight line or another `fall`.
4. Where both overlap, w + c > 1, the lower one counts; a cool-down that leads upwards, to an `end` above the shape, is
   multiplied by the warm-up's factor there instead. Nothing is ever below zero.

So two shapes with the same warm-up and cool-down differ in their shapes alone, and a share of 0 leaves that phase out.
"""

import math
from collections.abc import Callable
from typing import Literal

from gpuday.core.errors import UsageError

Fall = Literal["linear", "sqrt", "cosine"]
Shape = Callable[[float], float]


def phased(
    fraction: float, shape: Shape, *, warmup: float, cooldown: float, end: float, fall: Fall = "linear"
) -> float:
    """The multiplier at a fraction of the budget of a shape on [0, 1] between its warm-up and its cool-down."""
    x = min(1.0, max(0.0, fraction))
    up = 1.0 if x >= warmup else x / warmup
    risen = up * shape(_done(min(x, 1.0 - cooldown), warmup))
    left = 1.0 - x
    if left >= cooldown:
        return max(0.0, risen)
    top = shape(_done(1.0 - cooldown, warmup))
    fallen = end + _remaining(top - end, left, cooldown, fall)
    if end > top:
        return up * fallen
    return max(0.0, fallen if up == 1.0 else min(risen, fallen))


def half_cosine(done: float) -> float:
    """From 1 at 0 to 0 at 1, level at both."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


def check_phases(*, warmup: float, cooldown: float, end: float = 0.0, ends_by_itself: bool = True) -> None:
    """Refuse shares outside of [0, 1], and an `end` that no phase would lead to."""
    check_shares(warmup=warmup, cooldown=cooldown)
    check_levels(end=end)
    if end and not cooldown and not ends_by_itself:
        raise UsageError(f"end is {end} and nothing leads to it", where="end", fix="give a cooldown above 0 as well")


def check_shares(**shares: float) -> None:
    """Refuse shares of the budget that are not in [0, 1]."""
    _check("a share of the budget", shares)


def check_levels(**levels: float) -> None:
    """Refuse multipliers that are not in [0, 1]."""
    _check("a multiplier", levels)


def _check(what: str, values: dict[str, float]) -> None:
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise UsageError(f"{name} is {value}", where=name, fix=f"give {what} from 0 to 1")


def _done(x: float, warmup: float) -> float:
    """How much of the time after the warm-up has passed; with a warm-up of the whole budget it passes at its end."""
    if x < warmup:
        return 0.0
    return 1.0 if warmup == 1.0 else (x - warmup) / (1.0 - warmup)


def _remaining(height: float, left: float, cooldown: float, fall: Fall) -> float:
    """What is left of the height when `left` of the cool-down's share of the budget is left."""
    if fall == "linear":
        return height * left / cooldown
    if fall == "sqrt":
        return height * (1.0 - math.sqrt(1.0 - left / cooldown))
    return height * half_cosine(1.0 - left / cooldown)
