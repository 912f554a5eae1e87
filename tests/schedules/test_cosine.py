"""Linear up, half a cosine down."""

import pytest

from gpuday.core.errors import UsageError
from gpuday.schedules.cosine import Cosine


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.4, 0.8535534), (0.6, 0.5), (0.8, 0.1464466), (1.0, 0.0), (1.5, 0.0)],
)
def test_a_cosine_with_a_fifth_of_warmup(fraction, expected):
    """Halfway up at a tenth; then (1 + cos) / 2 at quarters of what is left; flat past the deadline."""
    assert Cosine(warmup=0.2)(fraction) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 1.0), (0.5, 0.55), (1.0, 0.1), (2.0, 0.1)])
def test_a_cosine_ends_at_its_end(fraction, expected):
    """Without warm-up it starts at 1."""
    assert Cosine(warmup=0.0, end=0.1)(fraction) == pytest.approx(expected)


def test_a_cosine_that_only_warms_up_is_defined_everywhere():
    """A warm-up of the whole budget divides by nothing."""
    assert [Cosine(warmup=1.0)(f) for f in (0.0, 0.5, 1.0)] == [0.0, 0.5, 0.0]


@pytest.mark.parametrize("knobs", [{"warmup": -0.1}, {"warmup": 1.1}, {"end": -0.1}, {"end": 1.5}])
def test_knobs_that_are_no_shares_are_refused(knobs):
    """With the name of the knob."""
    with pytest.raises(UsageError, match=f"{next(iter(knobs))} is"):
        Cosine(**knobs)


def test_a_cosine_may_rise():
    """Backwards through the same half cosine, from its end to 1, from where a cool-down leads back."""
    assert [Cosine(warmup=0.0, rising=True, end=0.2)(f) for f in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.6, 1.0])
    cooled = [Cosine(warmup=0.0, rising=True, cooldown=0.5)(f) for f in (0.25, 0.5, 0.75, 1.0)]
    assert cooled == pytest.approx([0.1464466, 0.5, 0.25, 0.0])
