"""The guard: what is not finite and what is far out of line is refused, with a reason; all else passes."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuday.train.guard import LEAST, WINDOW, not_finite, refusal

positive = st.floats(1e-3, 1e3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_whatever_came_before(value: float) -> None:
    """With the name of what is at fault, the loss first, and with the knob at zero too."""
    for losses in ([], [1.0] * WINDOW):
        for spike in (0.0, 100.0):
            seen = {"losses": losses, "norms": losses, "spike": spike}
            assert refusal(value, 1.0, **seen) == "loss is not finite"
            assert refusal(1.0, value, **seen) == "gradient norm is not finite"
            assert refusal(value, value, **seen) == "loss is not finite"
    assert not_finite(1.0, 1.0) == ""


def test_the_limit_is_so_many_times_the_median() -> None:
    """By hand: the median of 1..16 is 8.5; 850 is at the limit, and what is above it is refused."""
    seen = {"losses": [1.0] * 16, "norms": [float(n) for n in range(1, 17)], "spike": 100.0}
    assert refusal(1.0, 850.0, **seen) == ""
    assert refusal(1.0, 851.0, **seen) == "gradient norm is 100 times its median over the latest 16 updates"
    assert refusal(150.0, 8.5, **seen) == "loss is 150 times its median over the latest 16 updates"


@pytest.mark.parametrize("many", range(LEAST + 2))
def test_fewer_than_eight_updates_give_no_measure(many: int) -> None:
    """The first losses of a run differ by themselves."""
    refused = refusal(1e6, 1e6, losses=[1.0] * many, norms=[1.0] * many, spike=100.0) != ""
    assert refused == (many >= 8)


def test_only_the_latest_sixteen_count() -> None:
    """What came before them is forgotten: losses fall over a run, and norms may rise."""
    assert refusal(1.0, 500.0, losses=[1.0] * 32, norms=[1.0] * 16 + [10.0] * 16, spike=100.0) == ""


def test_a_median_of_nothing_gives_no_measure() -> None:
    """A loss of zero, or below: there is no ratio to speak of."""
    for usual in (0.0, -1.0):
        assert refusal(5.0, 5.0, losses=[usual] * 16, norms=[usual] * 16, spike=2.0) == ""


@given(st.lists(positive, min_size=8, max_size=16), positive, st.floats(1.5, 1e4))
def test_what_is_refused_is_larger_than_the_limit_and_nothing_else(
    seen: list[float], value: float, spike: float
) -> None:
    """Whatever the numbers; and with the knob at zero never."""
    above = value > spike * statistics.median(seen)
    assert (refusal(value, 1.0, losses=seen, norms=[], spike=spike) != "") == above
    assert refusal(value, value, losses=seen, norms=seen, spike=0.0) == ""
