"""A power of the time that is left."""

import pytest

from gpuday.core.errors import UsageError
from gpuday.schedules.polynomial import Polynomial


@pytest.mark.parametrize(("power", "expected"), [(1.0, 0.5), (2.0, 0.25), (3.0, 0.125), (0.5, 0.5**0.5)])
def test_a_power_at_half_the_time(power, expected):
    """After a warm-up of a fifth, at three fifths of the budget; 1 and 0 at both ends of the rest."""
    rate = Polynomial(warmup=0.2, power=power)
    assert [rate(f) for f in (0.1, 0.2, 0.6, 1.0, 1.1)] == pytest.approx([0.5, 1.0, expected, 0.0, 0.0])


def test_a_power_ends_at_its_end():
    """A square from 1 to a fifth."""
    assert [Polynomial(warmup=0.0, end=0.2)(f) for f in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.4, 0.2])


@pytest.mark.parametrize("power", [0.0, -1.0, 101.0])
def test_a_power_that_does_not_fall_is_refused(power):
    """0 would stay at 1 until the deadline, and less would rise without bound."""
    with pytest.raises(UsageError, match="power is"):
        Polynomial(power=power)
