"""Timing: looks and saves when they are due, and no step for which there is no time."""

import pytest

from gpuday.core.clock import Budget, Clock
from gpuday.recipe import TrainConfig
from gpuday.train.progress import Action, Pace
from gpuday.train.timing import Timing


class Watch:
    """A time that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def timing(
    budget: str = "100s", *, pace: Pace | None = None, every: float = 0.1, save: float = 30.0, period: int = 1
) -> tuple[Timing, Watch]:
    """A timing at step 0, its clock just started, and the watch that sets it."""
    watch = Watch()
    clock = Clock(Budget.parse(budget), now=watch)
    clock.start()
    config = TrainConfig(validate_every=every, save_every_seconds=save)
    return Timing(clock, config, step=0, pace=pace or Pace(), period=period), watch


def following(timed: Timing, step: int, *, rows: int = 10, compiles: bool = False) -> Action:
    """What comes next at the present moment of its clock."""
    return timed.next(step, timed._clock.fraction(), rows=rows, compiles=compiles)


def test_a_look_is_due_after_its_share_of_the_budget() -> None:
    """After 10 of 100 s and not after 9; then 10 s after the look."""
    timed, watch = timing()
    watch.seconds = 9.0
    assert following(timed, 1) == "step"
    watch.seconds = 10.0
    assert following(timed, 1) == "look"
    timed.looked(1, 0.0)
    watch.seconds = 19.0
    assert following(timed, 2) == "step"
    watch.seconds = 20.0
    assert following(timed, 2) == "look"


def test_a_look_that_cost_more_than_before_is_kept_room_for_at_once() -> None:
    """Without waiting for a save: the end of the run takes such a look too."""
    timed, watch = timing(save=1000.0)
    timed.looked(0, 5.0)
    timed.saved(0, 2.0)
    watch.seconds = 80.0
    assert following(timed, 1) == "look"
    timed.looked(1, 20.0)
    assert timed._clock.reserve_seconds == 22.0
    assert following(timed, 2) == "finish"


def test_a_save_is_due_after_its_seconds() -> None:
    """And comes after a look that is due as well."""
    timed, watch = timing(save=30.0)
    watch.seconds = 30.0
    assert following(timed, 1) == "look"
    timed.looked(1, 0.0)
    assert following(timed, 1) == "save"
    timed.saved(1, 0.0)
    assert following(timed, 1) == "step"


def test_nothing_is_done_twice_after_one_step() -> None:
    """Intervals of zero are due at any moment, and still a step comes between."""
    timed, _ = timing(every=0.0, save=0.0)
    assert following(timed, 0) == "step"
    assert following(timed, 1) == "look"
    timed.looked(1, 0.0)
    assert following(timed, 1) == "save"
    timed.saved(1, 0.0)
    assert following(timed, 1) == "step"


@pytest.mark.parametrize(
    ("used", "compiles", "wanted"),
    [(94.0, False, "step"), (96.0, False, "finish"), (49.0, True, "step"), (51.0, True, "finish")],
)
def test_a_step_is_made_where_there_is_time(used: float, compiles: bool, wanted: str) -> None:
    """Ten rows at a second each: half of them must fit; and all of them with the 40 s that compiling takes."""
    timed, watch = timing(pace=Pace(row_seconds=1.0, compile_seconds=40.0), every=1.0, save=1e3)
    watch.seconds = used
    assert following(timed, 5, compiles=compiles) == wanted


def test_the_end_is_kept_back() -> None:
    """A full look of 20 s and the median of saves of 1, 2 and 9 s: the last step begins 22 s before the deadline."""
    timed, watch = timing(every=1.0, save=1e3)
    timed.looked(0, 20.0)
    for seconds in (1.0, 9.0, 2.0):
        timed.saved(0, seconds)
    watch.seconds = 77.9
    assert following(timed, 1) == "step"
    watch.seconds = 78.0
    assert following(timed, 1) == "finish"


def test_the_pace_is_that_of_the_latest_steps() -> None:
    """The median of nine, and what compiled apart."""
    timed, _ = timing()
    for _ in range(20):
        timed.stepped(100.0, rows=10, compiled=False)
    for _ in range(5):
        timed.stepped(20.0, rows=10, compiled=False)
    timed.stepped(50.0, rows=10, compiled=True)
    assert timed.pace == Pace(row_seconds=2.0, compile_seconds=50.0, longest_seconds=20.0)


def test_doubtful_weights_are_not_saved_for_the_time_being() -> None:
    """The save comes with the first update that could be made again."""
    timed, watch = timing(every=1.0, save=30.0)
    watch.seconds = 31.0
    assert timed.next(1, 0.31, rows=10, compiles=False, doubtful=True) == "step"
    assert timed.next(1, 0.31, rows=10, compiles=False) == "save"


def test_a_run_that_went_back_looks_again_after_its_share_of_the_budget() -> None:
    """As one that was resumed at that step; else no look would come before it has passed the step of the last one."""
    timed, watch = timing(save=1000.0)
    watch.seconds = 10.0
    timed.looked(5, 0.0)
    watch.seconds = 12.0
    timed.went_back(2)
    watch.seconds = 21.0
    assert following(timed, 4) == "step"
    watch.seconds = 22.0
    assert following(timed, 4) == "look"


@pytest.mark.parametrize(
    ("period", "used", "compiles", "wanted"),
    [
        (3, 93.0, False, "step"),
        (3, 95.0, False, "finish"),
        (1, 98.5, False, "step"),
        (3, 91.0, True, "step"),
        (3, 93.0, True, "finish"),
    ],
)
def test_a_step_whose_update_may_be_a_dear_one_is_made_where_there_is_time_for_it(
    period: int, used: float, compiles: bool, wanted: str
) -> None:
    """2, 2 and 6 s again and again: all of the 6 must fit, with 2 more to compile, and half of 2 where no update is dear by
    itself. A resumed run knows it from the start."""
    timed, watch = timing(every=1.0, save=1e3, period=period)
    for seconds in (2.0, 2.0, 6.0) * 2:
        timed.stepped(seconds, rows=10, compiled=False)
    timed.stepped(2.0, rows=10, compiled=True)
    resumed, again = timing(every=1.0, save=1e3, period=period, pace=timed.pace)
    resumed.stepped(2.0, rows=10, compiled=False)
    watch.seconds = again.seconds = used
    assert following(timed, 5, compiles=compiles) == following(resumed, 5, compiles=compiles) == wanted
