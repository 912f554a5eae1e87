"""The rule that puts a schedule together, on a shape that tells where it is asked."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuday.core.errors import UsageError
from gpuday.schedules import check_levels, check_phases, check_shares, half_cosine, phased

share = st.floats(0.0, 1.0)


def halving(done):
    """A shape that falls from 1 to a half, so that the values of the phases differ."""
    return 1.0 - 0.5 * done


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.4, 0.875), (0.6, 0.75), (0.8, 0.425), (1.0, 0.1), (1.1, 0.1)],
)
def test_the_phases_follow_one_another(fraction, expected):
    """A fifth of warm-up, the shape over the other four, cut off at 0.6 with half of its time gone, down to a tenth."""
    value = phased(fraction, halving, warmup=0.2, cooldown=0.4, end=0.1)
    assert value == pytest.approx(expected)


@given(st.floats(-0.5, 1.5))
def test_without_phases_the_shape_is_all(fraction):
    """And what lies outside of the budget counts as its beginning or its end."""
    value = phased(fraction, halving, warmup=0.0, cooldown=0.0, end=0.0)
    assert value == halving(min(1.0, max(0.0, fraction)))


@given(warmup=share, cooldown=share, end=share)
@example(warmup=1.0, cooldown=1.0, end=0.3)
@example(warmup=1.0, cooldown=0.0, end=0.0)
def test_a_cooldown_ends_exactly_at_its_end(warmup, cooldown, end):
    """Whatever the shares, at the deadline and past it; without one the shape's own end stands."""
    values = [phased(f, halving, warmup=warmup, cooldown=cooldown, end=end) for f in (1.0, 1.0000001, 2.0)]
    assert values == [end if cooldown else 0.5] * 3


@given(warmup=st.floats(0.01, 0.5), cooldown=st.floats(0.01, 0.5))
def test_a_cooldown_does_not_move_what_comes_before_it(warmup, cooldown):
    """Runs with several cool-downs share one trunk, to the bit: that is what makes them cheap to compare."""
    for fraction in [i / 50 * (1.0 - cooldown) for i in range(50)]:
        trunk = phased(fraction, halving, warmup=warmup, cooldown=0.0, end=0.0)
        assert phased(fraction, halving, warmup=warmup, cooldown=cooldown, end=0.0) == trunk


def test_where_the_phases_overlap_the_lower_one_counts():
    """Eight tenths up and eight tenths down meet at one half, at five eighths of the peak."""
    values = [phased(f, lambda done: 1.0, warmup=0.8, cooldown=0.8, end=0.0) for f in (0.2, 0.4, 0.5, 0.6, 0.8, 1.0)]
    assert values == pytest.approx([0.25, 0.5, 0.625, 0.5, 0.25, 0.0])


def test_a_cooldown_that_leads_upwards_is_multiplied_by_an_overlapping_warmup():
    """Eight tenths each, from a shape at 0.5 to an end of 0.9: the way up times the warm-up's share, and no jump behind."""
    fractions = (0.2, 0.4, 0.6, 0.8, 1.0)
    values = [phased(f, lambda done: 0.5, warmup=0.8, cooldown=0.8, end=0.9) for f in fractions]
    assert values == pytest.approx([0.25 * 0.5, 0.5 * 0.6, 0.75 * 0.7, 0.8, 0.9])
    assert phased(0.8 - 1e-9, lambda done: 0.5, warmup=0.8, cooldown=0.8, end=0.9) == pytest.approx(0.8)


def test_a_cooldown_may_lead_upwards():
    """From a shape that is at 0 to an end above it, in a straight line."""
    values = [phased(f, lambda done: 0.0, warmup=0.0, cooldown=0.5, end=0.4) for f in (0.0, 0.5, 0.75, 1.0)]
    assert values == pytest.approx([0.0, 0.0, 0.2, 0.4])


@pytest.mark.parametrize(
    ("fall", "expected"),
    [
        ("linear", [1.0, 0.75, 0.5, 0.25, 0.0]),
        ("sqrt", [1.0, 0.5, 1.0 - math.sqrt(0.5), 1.0 - math.sqrt(0.75), 0.0]),
        ("cosine", [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0.0]),
    ],
)
def test_ways_down(fall, expected):
    """At quarters of a cool-down of two fifths: 1 - t, 1 - sqrt(t), (1 + cos(pi t)) / 2."""
    fractions = [0.6, 0.7, 0.8, 0.9, 1.0]
    values = [phased(f, lambda done: 1.0, warmup=0.0, cooldown=0.4, end=0.0, fall=fall) for f in fractions]
    assert values == pytest.approx(expected, abs=1e-12)


def test_half_a_cosine_is_level_at_both_ends():
    """1, a half and 0; exactly, where a schedule must meet its end."""
    assert [half_cosine(0.0), half_cosine(1.0)] == [1.0, 0.0]
    assert half_cosine(0.5) == pytest.approx(0.5)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_what_is_no_share_or_no_multiplier_is_refused(value):
    """Each by its own word: a length is not a share of the budget, and a batch's multiplier is no rate."""
    for check, word in ((check_shares, "a share of the budget"), (check_levels, "a multiplier")):
        with pytest.raises(UsageError, match="knob is") as caught:
            check(knob=value)
        assert (caught.value.where, caught.value.fix) == ("knob", f"give {word} from 0 to 1")


def test_an_end_that_nothing_leads_to_is_refused():
    """Only for shapes that stay where they are: others reach their end by themselves."""
    check_phases(warmup=0.0, cooldown=0.0, end=0.1)
    check_phases(warmup=0.0, cooldown=0.1, end=0.1, ends_by_itself=False)
    with pytest.raises(UsageError, match="nothing leads to it") as caught:
        check_phases(warmup=0.0, cooldown=0.0, end=0.1, ends_by_itself=False)
    assert (caught.value.where, caught.value.fix) == ("end", "give a cooldown above 0 as well")
