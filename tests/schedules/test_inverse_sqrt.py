"""One over the square root of the time."""

import pytest

from gpuday.core.errors import UsageError
from gpuday.schedules.inverse_sqrt import InverseSqrt


def test_with_equal_shares_it_is_the_transformers_schedule():
    """Up to a twenty-fifth of the budget, then sqrt(0.04 / x): a half at 4 times as much, a fifth at the deadline."""
    rate = InverseSqrt(warmup=0.04, timescale=0.04)
    assert [rate(f) for f in (0.02, 0.04, 0.16, 0.36, 1.0)] == pytest.approx([0.5, 1.0, 0.5, 1 / 3, 0.2])


def test_a_cooldown_leads_from_there_to_zero():
    """At 0.64 it is at a quarter, and at an eighth half-way from there."""
    rate = InverseSqrt(warmup=0.04, timescale=0.04, cooldown=0.36)
    assert [rate(f) for f in (0.16, 0.64, 0.82, 1.0)] == pytest.approx([0.5, 0.25, 0.125, 0.0])


def test_a_longer_timescale_falls_later():
    """A timescale that passes three times after the warm-up leaves a half."""
    assert InverseSqrt(warmup=0.1, timescale=0.3)(1.0) == pytest.approx(0.5)


def test_without_warmup_it_divides_by_nothing():
    """It starts at 1, where sqrt(w / x) with w = 0 has no value."""
    assert [InverseSqrt(warmup=0.0)(f) for f in (0.0, 0.06)] == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize("timescale", [0.0, -0.1, 1.1])
def test_a_timescale_that_is_no_share_is_refused(timescale):
    """0 would be 0 at once."""
    with pytest.raises(UsageError, match="timescale is"):
        InverseSqrt(timescale=timescale)
