"""Thinning and smoothing."""

import math

import pytest

from gpuday.report.series import smooth, thin


def test_thinning_leaves_few_values_alone() -> None:
    """Nothing is made up, nothing lost."""
    assert thin([1, 2, 3], 3) == [1, 2, 3]
    assert thin(list(range(10)), 4) == [0, 3, 6, 9]


def test_smoothing_weighs_both_sides_by_their_distance() -> None:
    """Hand-computed for a half-life of one: weights 1, 1/2, 1/4 to either side."""
    assert smooth([0.0, 4.0, 0.0], half_life=1) == [2.0 / 1.75, 4.0 / 2.0, 2.0 / 1.75]
    assert smooth([1.0, float("nan"), 3.0], half_life=1) == [1.75 / 1.25, 2.0, 3.25 / 1.25]


def test_smoothing_a_straight_line_leaves_its_middle_where_it_was() -> None:
    """No lag: the curve of a falling loss is not drawn above it."""
    line = [float(-i) for i in range(101)]
    assert smooth(line, half_life=3)[50] == pytest.approx(-50.0)


def test_smoothing_nothing_is_nothing() -> None:
    """A run without a finite loss has no curve."""
    assert smooth([], half_life=1) == []
    assert all(math.isnan(v) for v in smooth([float("nan")] * 2, half_life=1))
