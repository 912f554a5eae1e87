"""What holds for a schedule of any kind; a new file in the folder is enrolled by being there."""

import dataclasses
import itertools
import math
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuday.core import parts
from gpuday.core.errors import UsageError
from gpuday.schedules import Schedule

FRACTIONS = [i / 1000 for i in range(1001)]
every_schedule = pytest.mark.parametrize("name", parts.names(Schedule))
share = st.floats(0.0, 1.0)
# Knobs that are not shares or multipliers, and those with less than [0, 1] to choose from.
RANGES = {
    "value": st.floats(0.0, 3.0),
    "power": st.floats(0.01, 5.0),
    "timescale": st.floats(1e-6, 1.0),
    "one_cycle peak": st.floats(0.01, 0.5),
    "fall": st.floats(0.001, 1.0),
    "rise": st.floats(0.0, 0.9),
    "cycles": st.integers(1, 20),
    "rising": st.booleans(),
    "cooldown_shape": st.sampled_from(["linear", "sqrt", "cosine"]),
    "stages": st.lists(st.tuples(share, share), max_size=4, unique_by=lambda pair: pair[0]).map(
        lambda pairs: (*(p for p in sorted(pairs) if 0.0 < p[0] < 1.0), (1.0, 0.5))
    ),
}


# The same without what is as steep as a jump.
fiftieth = st.integers(0, 49).map(lambda count: count / 50)
SMOOTH = {
    **RANGES,
    **dict.fromkeys(("warmup", "cooldown"), fiftieth),
    "power": st.floats(0.3, 5.0),
    "timescale": st.floats(0.01, 1.0),
    "fall": st.floats(0.02, 1.0),
    "rise": st.floats(0.02, 0.9),
    "until": fiftieth,
    "triangle peak": st.integers(0, 50).map(lambda count: count / 50),
}


@st.composite
def schedules(draw, name, ranges=RANGES):
    """A schedule of a kind with knobs that it takes; an end that nothing leads to is left out."""
    cls = parts.find(Schedule, name)
    names = [f.name for f in dataclasses.fields(cls)]
    knobs = {n: draw(ranges.get(f"{name} {n}", ranges.get(n, share)), label=n) for n in names}
    try:
        return cls(**knobs)
    except UsageError:
        return cls(**{**knobs, "end": 0.0})


@every_schedule
def test_a_schedule_stays_between_nothing_and_its_peak(name):
    """With its default knobs, over the whole budget, and past its end, where a late step may land."""
    schedule = parts.find(Schedule, name)()
    values = [schedule(f) for f in [*FRACTIONS, 1.001, 1.1, 2.0]]
    assert (min(values) >= 0.0, max(values) <= 1.0 + 1e-12) == (True, True)
    assert max(values) > 0.0


@every_schedule
def test_a_schedule_does_not_jump(name):
    """A thousandth of the budget changes it by a tenth of the peak at most."""
    schedule = parts.find(Schedule, name)()
    assert max(abs(schedule(b) - schedule(a)) for a, b in itertools.pairwise(FRACTIONS)) <= 0.1


@every_schedule
def test_a_schedule_is_a_pure_function(name):
    """Asked again, in another order and by another copy, it says the same."""
    first = [parts.find(Schedule, name)()(f) for f in FRACTIONS[::50]]
    schedule = parts.find(Schedule, name)()
    assert [schedule(f) for f in reversed(FRACTIONS[::50])][::-1] == first


@every_schedule
@given(data=st.data())
def test_no_setting_of_the_knobs_takes_a_schedule_below_zero(name, data):
    """Knobs anywhere in [-1, 2] are refused with a sentence, or give a finite number that is not negative."""
    cls = parts.find(Schedule, name)
    knobs = {f.name: data.draw(st.floats(-1.0, 2.0), label=f.name) for f in dataclasses.fields(cls) if f.type is float}
    try:
        schedule = cls(**knobs)
    except UsageError:
        return
    value = schedule(data.draw(st.floats(0.0, 1.5), label="fraction"))
    assert math.isfinite(value)
    assert value >= 0.0


@pytest.mark.parametrize("name", [name for name in parts.names(Schedule) if name != "stages"])
@given(data=st.data())
def test_no_setting_of_the_knobs_makes_a_schedule_jump(name, data):
    """Where phases overlap, where an end lies above the shape, at the seams: the stretches that change most are halved
    until they are short, which leaves nothing of a slope and all of a jump. Stages jump, and so do restarts without a rise
    and, at the deadline itself, a warm-up of the whole budget."""
    schedule = data.draw(schedules(name, SMOOTH))

    def change(stretch):
        return abs(schedule(stretch[1]) - schedule(stretch[0]))

    for stretch in sorted(itertools.pairwise(FRACTIONS[::10]), key=change)[-3:]:
        for _ in range(36):
            middle = sum(stretch) / 2
            stretch = max((stretch[0], middle), (middle, stretch[1]), key=change)
        assert change(stretch) < 0.01, stretch


@every_schedule
def test_what_is_infinite_or_no_number_is_refused(name):
    """In every knob that is a number."""
    cls = parts.find(Schedule, name)
    for field in dataclasses.fields(cls):
        if field.type is float:
            for value in (math.inf, -math.inf, math.nan):
                with pytest.raises(UsageError, match=f"{field.name} is"):
                    cls(**{field.name: value})


@every_schedule
def test_a_schedule_has_a_warmup_and_a_cooldown_of_its_own(name):
    """So that a comparison of two shapes is one of shapes alone."""
    hints = typing.get_type_hints(parts.find(Schedule, name))
    assert (hints["warmup"], hints["cooldown"]) == (float, float)


@every_schedule
@given(data=st.data())
def test_a_schedule_is_bounded_and_defined_everywhere(name, data):
    """Whatever its knobs: no less than 0, no more than its peak, at 0 and at 1 too; a late step gets the deadline's."""
    schedule = data.draw(schedules(name))
    fractions = (0.0, data.draw(share, label="fraction"), 1.0 - 1e-16, 1.0)
    peak = max(1.0, getattr(schedule, "value", 0.0))
    assert all(0.0 <= schedule(x) <= peak * (1.0 + 1e-12) for x in fractions)
    assert schedule(1.0 + 1e-9) == schedule(1.7) == schedule(1.0)


@every_schedule
@given(data=st.data())
def test_a_cooldown_ends_at_the_end_exactly(name, data):
    """Not nearly: a rate that ends at 0 is 0 at the deadline. A ramp's `end` is its plateau, and it cools down to 0."""
    schedule = data.draw(schedules(name))
    if schedule.cooldown:
        assert schedule(1.0) == (0.0 if name == "ramp" else schedule.end)


@every_schedule
def test_a_warmup_begins_at_zero_and_a_cooldown_ends_there(name):
    """With nothing given but these two; at half the warm-up the multiplier is half of what it is at its end."""
    schedule = parts.find(Schedule, name)(warmup=0.25, cooldown=0.25)
    assert [schedule(0.0), schedule(0.125), schedule(1.0)] == pytest.approx([0.0, schedule(0.25) / 2, 0.0])
