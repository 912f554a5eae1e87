"""The five schedules that had fewer knobs have the values that they had, to the last bit."""

import math

import pytest

from gpuday.schedules.constant import Constant
from gpuday.schedules.cosine import Cosine
from gpuday.schedules.ramp import Ramp
from gpuday.schedules.trapezoid import Trapezoid
from gpuday.schedules.triangle import Triangle

FRACTIONS = [i / 997 for i in range(998)]


def trapezoid(x, warmup, cooldown, end):
    up = 1.0 if warmup == 0 else x / warmup
    down = 1.0 if cooldown == 0 else end + (1.0 - end) * (1.0 - x) / cooldown
    return max(0.0, min(1.0, up, down))


def cosine(x, warmup, end):
    if x < warmup:
        return x / warmup
    done = (x - warmup) / (1.0 - warmup)
    return max(0.0, end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))


def triangle(x, start, peak):
    if x < peak:
        return start + (1.0 - start) * x / peak
    return max(0.0, (1.0 - x) / (1.0 - peak))


def ramp(x, start, end, until):
    return max(0.0, start + (end - start) * min(1.0, x / until))


@pytest.mark.parametrize(
    ("schedule", "formula", "knobs"),
    [
        (Trapezoid, trapezoid, {"warmup": 0.02, "cooldown": 0.8, "end": 0.0}),
        (Trapezoid, trapezoid, {"warmup": 0.01, "cooldown": 0.99, "end": 0.0}),
        (Trapezoid, trapezoid, {"warmup": 0.1, "cooldown": 0.3, "end": 0.1}),
        (Trapezoid, trapezoid, {"warmup": 0.7, "cooldown": 0.9, "end": 0.0}),
        (Trapezoid, trapezoid, {"warmup": 0.0, "cooldown": 0.0, "end": 0.0}),
        (Cosine, cosine, {"warmup": 0.02, "end": 0.0}),
        (Cosine, cosine, {"warmup": 0.13, "end": 0.1}),
        (Triangle, triangle, {"start": 0.25, "peak": 0.75}),
        (Triangle, triangle, {"start": 0.5, "peak": 0.3}),
        (Ramp, ramp, {"start": 0.0, "end": 1.0, "until": 0.6}),
        (Ramp, ramp, {"start": 0.25, "end": 1.0, "until": 0.3}),
        (Ramp, ramp, {"start": 1.0, "end": 0.5, "until": 1.0}),
        (Constant, lambda x, value: value, {"value": 0.3}),
    ],
)
def test_new_knobs_change_nothing_where_they_are_not_given(schedule, formula, knobs):
    """The formulas are those of the version without them; a preset's run can be repeated."""
    assert [schedule(**knobs)(x) for x in FRACTIONS] == [formula(x, **knobs) for x in FRACTIONS]
