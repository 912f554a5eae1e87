"""Linear up, linear down."""

import pytest

from gpuday.schedules.linear import Linear


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.4, 0.75), (0.6, 0.5), (1.0, 0.0), (1.2, 0.0)]
)
def test_a_line_falls_over_all_that_the_warmup_leaves(fraction, expected):
    """A fifth up, four fifths down."""
    assert Linear(warmup=0.2)(fraction) == pytest.approx(expected)


def test_a_line_ends_at_its_end():
    """Exactly, at the deadline."""
    assert [Linear(warmup=0.0, end=0.1)(f) for f in (0.0, 0.5)] == pytest.approx([1.0, 0.55])
    assert Linear(end=0.1)(1.0) == 0.1


def test_a_cooldown_makes_the_last_part_of_a_line_steeper():
    """At half the budget the line is at a half; a cool-down of the other half to a fifth reaches 0.35 in its middle."""
    values = [Linear(warmup=0.0, cooldown=0.5, end=0.2)(f) for f in (0.5, 0.75, 1.0)]
    assert values == pytest.approx([0.6, 0.4, 0.2])
    steep = [Linear(warmup=0.0, cooldown=0.25)(f) for f in (0.75, 0.875, 1.0)]
    assert steep == pytest.approx([0.25, 0.125, 0.0])
