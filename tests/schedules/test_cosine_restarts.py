"""Half cosines one after another."""

import pytest

from gpuday.core.errors import UsageError
from gpuday.schedules.cosine import Cosine
from gpuday.schedules.cosine_restarts import CosineRestarts


def test_hard_restarts_begin_anew_at_one():
    """Two cycles: down through a half, up at once, down again, and at the end for good."""
    rate = CosineRestarts(warmup=0.0, cycles=2, rise=0.0)
    assert [rate(f) for f in (0.0, 0.25, 0.4999999, 0.5, 0.75, 1.0)] == pytest.approx([1, 0.5, 0, 1, 0.5, 0], abs=1e-9)


def test_a_rise_climbs_back_without_a_jump():
    """A fifth of the second cycle in a straight line from the end to 1, half a cosine over the other four fifths."""
    rate = CosineRestarts(warmup=0.0, cycles=2, rise=0.2, end=0.1)
    assert [rate(f) for f in (0.5, 0.55, 0.6, 0.8, 1.0)] == pytest.approx([0.1, 0.55, 1.0, 0.55, 0.1])


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.4, 0.8, 1.0])
def test_one_cycle_is_half_a_cosine(fraction):
    """Nothing restarts, so that there is no rise either."""
    assert CosineRestarts(cycles=1)(fraction) == pytest.approx(Cosine()(fraction))


@pytest.mark.parametrize("knobs", [{"cycles": 0}, {"cycles": 1001}, {"rise": -0.1}, {"rise": 1.0}])
def test_cycles_and_rises_that_leave_nothing_are_refused(knobs):
    """With the name of the knob."""
    with pytest.raises(UsageError, match=f"{next(iter(knobs))} is"):
        CosineRestarts(**knobs)
