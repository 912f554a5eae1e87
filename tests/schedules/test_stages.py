"""Values that change at once."""

import pytest

from gpuday.core import config
from gpuday.core.errors import UsageError
from gpuday.schedules import Schedule
from gpuday.schedules.stages import Stages

LENGTHS = ((0.1, 0.0625), (0.2, 0.125), (0.3, 0.25), (0.5, 0.5), (1.0, 1.0))


def test_a_stage_holds_until_its_end():
    """The crammed paper's curriculum of lengths 8, 16, 32, 64 and 128; the next stage begins on the very fraction."""
    length = Stages(stages=LENGTHS)
    fractions = (0.0, 0.0999, 0.1, 0.25, 0.3, 0.4999, 0.5, 0.9, 1.0, 1.1)
    assert [round(128 * length(f)) for f in fractions] == [8, 8, 16, 32, 64, 64, 128, 128, 128, 128]


def test_a_quarter_of_the_budget_first():
    """As many fractions before the change as its share says."""
    first = Stages(stages=((0.25, 1.0), (1.0, 0.0)))
    assert [first(i / 1000) for i in range(1001)] == [1.0] * 250 + [0.0] * 751


def test_stages_have_phases_too():
    """A warm-up to the first one, then each in what is left, and a cool-down from the last."""
    rate = Stages(stages=((0.5, 1.0), (1.0, 0.5)), warmup=0.2, cooldown=0.2)
    assert [rate(f) for f in (0.1, 0.2, 0.59, 0.61, 0.8, 0.9, 1.0)] == pytest.approx([0.5, 1, 1, 0.5, 0.5, 0.25, 0])


def test_stages_are_read_from_what_a_person_types():
    """Lists of lists, with whole numbers where they are, as TOML gives them."""
    table = {"part": "stages", "stages": config.parse_value("[[0.25, 0.5], [1, 1]]")}
    read = config.merge(Stages(), {k: v for k, v in table.items() if k != "part"})
    assert read == Stages(stages=((0.25, 0.5), (1.0, 1.0)))
    assert isinstance(read, Schedule)


@pytest.mark.parametrize(
    "stages",
    [(), ((0.5, 1.0),), ((0.5, 1.0), (0.5, 0.5), (1.0, 1.0)), ((0.0, 1.0), (1.0, 1.0)), ((1.0, 1.0), (0.5, 1.0))],
)
def test_stages_that_do_not_cover_the_budget_are_refused(stages):
    """None, too short, one of no length, or in the wrong order."""
    with pytest.raises(UsageError, match="stages end at") as caught:
        Stages(stages=stages)
    assert caught.value.where == "stages"


def test_a_stage_beyond_the_peak_is_refused():
    """With its place."""
    with pytest.raises(UsageError, match=r"stages\[1\]\[1\] is 1.5"):
        Stages(stages=((0.5, 1.0), (1.0, 1.5)))
