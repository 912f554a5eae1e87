"""Flat, then straight down."""

import pytest

from gpuday.core.errors import UsageError
from gpuday.schedules.dive import Dive


@pytest.mark.parametrize(("fall", "expected"), [(0.5, [1.0, 1.0, 0.5, 0.0]), (0.75, [1.0, 2 / 3, 1 / 3, 0.0])])
def test_a_dive_falls_in_the_end(fall, expected):
    """At quarters of the budget; past it, where min(1, (1 - x) / fall) is below zero, it stays at zero."""
    assert [Dive(warmup=0.0, fall=fall)(f) for f in (0.25, 0.5, 0.75, 1.0)] == pytest.approx(expected)
    assert Dive(fall=fall)(1.1) == 0.0


def test_a_warmup_comes_before_the_dive():
    """A fifth of the budget; the fall is then counted in what is left of it."""
    values = [Dive(warmup=0.2, fall=0.5, end=0.2)(f) for f in (0.1, 0.2, 0.6, 0.8, 1.0)]
    assert values == pytest.approx([0.5, 1.0, 1.0, 0.6, 0.2])


@pytest.mark.parametrize("fall", [0.0, -0.5, 1.5])
def test_a_fall_of_no_time_is_refused(fall):
    """It would never be reached; `constant` says it better."""
    with pytest.raises(UsageError, match="fall is"):
        Dive(fall=fall)
