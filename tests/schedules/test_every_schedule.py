"""What holds for a schedule of any kind; a new file in the folder is enrolled by being there."""

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuday.core import parts
from gpuday.core.errors import UsageError
from gpuday.schedules import Schedule

FRACTIONS = [i / 1000 for i in range(1001)]
every_schedule = pytest.mark.parametrize("name", parts.names(Schedule))


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
