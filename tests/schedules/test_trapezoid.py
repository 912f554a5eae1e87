"""Up, flat, down to the end exactly at the deadline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuday.core.errors import UsageError
from gpuday.schedules.trapezoid import Trapezoid

share = st.floats(0.01, 1.0)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.4, 1.0), (0.6, 1.0), (0.7, 0.75), (0.9, 0.25), (1.0, 0.0), (1.1, 0.0)],
)
def test_a_trapezoid_with_a_plateau(fraction, expected):
    """Ten per cent up, forty down."""
    assert Trapezoid(warmup=0.1, cooldown=0.4)(fraction) == pytest.approx(expected)


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 1.0), (0.5, 1.0), (0.75, 0.6), (1.0, 0.2)])
def test_a_trapezoid_ends_at_its_end(fraction, expected):
    """Half the budget down to a fifth; without warm-up it starts at 1."""
    assert Trapezoid(warmup=0.0, cooldown=0.5, end=0.2)(fraction) == pytest.approx(expected)


@given(warmup=share, cooldown=share)
def test_a_trapezoid_is_exactly_zero_at_the_deadline_and_beyond(warmup, cooldown):
    """Not nearly: the budget's last step is the schedule's end, whatever the shares."""
    rate = Trapezoid(warmup=warmup, cooldown=cooldown)
    assert [rate(1.0), rate(1.01), rate(2.0)] == [0.0, 0.0, 0.0]


def test_no_cooldown_stays_at_the_top():
    """`cooldown=0` divides by nothing, at the deadline too."""
    assert [Trapezoid(warmup=0.0, cooldown=0.0)(f) for f in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "knobs", [{"warmup": -0.1}, {"warmup": 1.1}, {"cooldown": -0.1}, {"cooldown": 2.0}, {"end": -1.0}]
)
def test_knobs_that_are_no_shares_are_refused(knobs):
    """With the name of the knob."""
    with pytest.raises(UsageError, match=f"{next(iter(knobs))} is"):
        Trapezoid(**knobs)


@pytest.mark.parametrize(("shape", "expected"), [("linear", 0.75), ("sqrt", 0.5), ("cosine", 0.8535534)])
def test_ways_down_differ_at_a_quarter_of_the_cooldown(shape, expected):
    """A tenth of 0.4 gone: 1 - 1/4, 1 - sqrt(1/4), (1 + cos(pi/4)) / 2; all end at zero."""
    rate = Trapezoid(warmup=0.1, cooldown=0.4, cooldown_shape=shape)
    assert [rate(0.6), rate(0.7), rate(1.0)] == pytest.approx([1.0, expected, 0.0])


def test_an_end_without_a_cooldown_is_refused():
    """Nothing would lead to it."""
    with pytest.raises(UsageError, match=r"end is 0.2 and nothing leads to it"):
        Trapezoid(cooldown=0.0, end=0.2)
