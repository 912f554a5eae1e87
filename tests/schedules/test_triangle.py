"""The paper's triangle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuday.core.errors import UsageError
from gpuday.schedules.triangle import Triangle


@given(st.floats(0.0, 1.0))
def test_the_triangle_is_the_papers_formula(x):
    """`budget-triangle2`: min(0.25 + x, 4 (1 - x)) for x in [0, 1]."""
    assert Triangle()(x) == pytest.approx(min(0.25 + x, 4 * (1 - x)), abs=1e-12)


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, 0.25), (0.5, 0.75), (0.75, 1.0), (0.875, 0.5), (1.0, 0.0), (1.25, 0.0)]
)
def test_the_triangle_at_hand_picked_points(fraction, expected):
    """Peak at three quarters, zero at the deadline; beyond it the paper's formula is negative, ours stays zero."""
    assert Triangle()(fraction) == pytest.approx(expected)


@pytest.mark.parametrize(("peak", "expected"), [(0.0, [1.0, 0.5, 0.0]), (1.0, [0.5, 0.75, 1.0])])
def test_a_peak_at_either_end_divides_by_nothing(peak, expected):
    """Only down, or only up."""
    assert [Triangle(start=0.5, peak=peak)(f) for f in (0.0, 0.5, 1.0)] == pytest.approx(expected)


@pytest.mark.parametrize("knobs", [{"start": -0.1}, {"start": 1.1}, {"peak": -0.1}, {"peak": 1.1}])
def test_knobs_that_are_no_shares_are_refused(knobs):
    """With the name of the knob."""
    with pytest.raises(UsageError, match=f"{next(iter(knobs))} is"):
        Triangle(**knobs)


def test_a_triangle_has_phases_too():
    """A fifth up to the start, the triangle in what is left, and a straight line from 0.9 to a tenth."""
    rate = Triangle(start=0.5, peak=0.5, warmup=0.2, cooldown=0.3, end=0.1)
    assert [rate(f) for f in (0.1, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.1])
    top = 0.1 + 0.9 * 0.75  # a quarter of the way down, at 0.7
    assert [rate(0.7), rate(0.85)] == pytest.approx([top, (top + 0.1) / 2])


def test_an_end_behind_a_peak_at_the_deadline_is_refused():
    """There is no time to come down to it in, unless a cool-down makes some."""
    with pytest.raises(UsageError, match="nothing leads to it"):
        Triangle(peak=1.0, end=0.3)
    assert Triangle(peak=1.0, end=0.3, cooldown=0.5)(1.0) == 0.3
