"""A straight line, then flat."""

import pytest

from gpuday.core.errors import UsageError
from gpuday.schedules.ramp import Ramp


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, 0.25), (0.15, 0.625), (0.3, 1.0), (0.7, 1.0), (1.0, 1.0), (1.2, 1.0)]
)
def test_a_ramp_reaches_its_end_at_until(fraction, expected):
    """A quarter to the whole over the first three tenths: `modern`'s batch."""
    assert Ramp(start=0.25, until=0.3)(fraction) == pytest.approx(expected)


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 1.0), (0.5, 0.75), (1.0, 0.5), (1.5, 0.5)])
def test_a_ramp_may_fall(fraction, expected):
    """`modern`'s mask rate: from its peak to half."""
    assert Ramp(start=1.0, end=0.5)(fraction) == pytest.approx(expected)


def test_a_ramp_over_nothing_is_at_its_end_at_once():
    """`until=0` divides by nothing."""
    assert [Ramp(start=0.2, end=0.9, until=0.0)(f) for f in (0.0, 0.5, 1.0)] == pytest.approx([0.9] * 3)


@pytest.mark.parametrize("until", [-0.1, 1.1])
def test_an_until_that_is_no_share_is_refused(until):
    """With the name of the knob."""
    with pytest.raises(UsageError, match="until is"):
        Ramp(until=until)


def test_a_ramp_may_cool_down():
    """To zero, from wherever its line is."""
    assert [Ramp(cooldown=0.25)(f) for f in (0.5, 0.75, 0.875, 1.0)] == pytest.approx([0.5, 0.75, 0.375, 0.0])


@pytest.mark.parametrize("knobs", [{"start": -0.1}, {"end": -0.1}])
def test_a_multiplier_below_zero_is_refused(knobs):
    """It would be cut off at zero, and the line would bend."""
    with pytest.raises(UsageError, match=f"{next(iter(knobs))} is"):
        Ramp(**knobs)
