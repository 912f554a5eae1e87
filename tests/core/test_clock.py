"""The clock: every second on one row, and nothing but time moves the fraction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuday.core.clock import LOST, Budget, Clock
from gpuday.core.errors import UsageError
from passing_time import Time, running


def spent(clock: Clock) -> dict[str, float]:
    """The ledger without rows of no time."""
    return {name: seconds for name, seconds in clock.ledger().items() if seconds}


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("90s", 90, "seconds"),
        ("10m", 600, "seconds"),
        ("24h", 86_400, "seconds"),
        ("1.5h", 5400, "seconds"),
        ("2d", 172_800, "seconds"),
        ("2e9tok", 2e9, "tokens"),
        ("1000tokens", 1000, "tokens"),
        ("5000steps", 5000, "steps"),
        ("1step", 1, "steps"),
        ("1e18flop", 1e18, "flops"),
        ("2.5E+17flops", 2.5e17, "flops"),
        (" 1_000_000TOK ", 1e6, "tokens"),
    ],
)
def test_a_budget_is_read_in_every_unit(text: str, amount: float, unit: str) -> None:
    """Time, tokens, steps and FLOPs, with exponents, underscores and capitals."""
    assert Budget.parse(text) == Budget(amount=amount, unit=unit)


@pytest.mark.parametrize(
    "text", ["", "10", "m", "-5m", "nanh", "infh", "1.2.3m", ".m", "10 weeks", "5mm", "1e18", "ten m"]
)
def test_what_is_no_budget_is_refused_with_examples(text: str) -> None:
    """A run never starts on a guess about how long it may take."""
    with pytest.raises(UsageError, match="not a budget") as caught:
        Budget.parse(text)
    assert "24h" in caught.value.fix
    assert caught.value.where == "--budget"


@pytest.mark.parametrize("amount", [0.0, -1.0, float("inf"), float("nan")])
def test_an_amount_that_can_never_be_used_up_or_begun_is_no_budget(amount: float) -> None:
    """From the command line, a file or Python."""
    with pytest.raises(UsageError, match="is not a budget"):
        Budget(amount=amount, unit="tokens")


def test_only_a_wall_clock_budget_has_seconds() -> None:
    """Tokens do not pretend to be time."""
    assert Budget.parse("3m").seconds == 180
    assert Budget.parse("3steps").seconds is None


def test_a_clock_stands_until_it_is_started_and_after_it_is_stopped() -> None:
    """Preparing before and exporting after cost nothing."""
    time = Time()
    clock = Clock(Budget.parse("100s"), now=time)
    time.passes(50)
    assert clock.used_seconds() == 0
    clock.start()
    time.passes(7)
    clock.stop()
    time.passes(50)
    assert clock.used_seconds() == 7
    clock.start()
    time.passes(3)
    assert clock.used_seconds() == 10


def test_the_innermost_activity_gets_the_time() -> None:
    """Nested blocks book by hand-computed rows, and what no block claims is 'other'."""
    clock, time = running()
    time.passes(1)
    with clock.activity("train"):
        time.passes(2)
        with clock.activity("save"):
            time.passes(4)
        time.passes(8)
    time.passes(16)
    assert clock.ledger() == {"other": 17, "train": 10, "save": 4}
    assert clock.used_seconds() == 31


def test_an_activity_that_raises_is_booked_and_left() -> None:
    """A fault does not leave later seconds on the wrong row."""
    clock, time = running()
    with pytest.raises(ZeroDivisionError), clock.activity("compile"):
        time.passes(3)
        raise ZeroDivisionError
    time.passes(2)
    assert clock.ledger() == {"compile": 3, "other": 2}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1000), st.integers(0, 1000)), max_size=30))
def test_the_rows_of_the_ledger_add_up_to_the_time_that_passed(blocks: list[tuple[str, int, int]]) -> None:
    """Against the injected time itself: no second is lost or counted twice."""
    clock, time = running()
    for name, inside, after in blocks:
        with clock.activity(name), clock.activity(name):
            time.passes(inside)
        time.passes(after)
        clock.ledger()
    assert clock.used_seconds() == time.seconds - 1000
    assert sum(clock.ledger().values()) == clock.used_seconds()


def test_a_ledger_that_was_handed_out_is_a_copy() -> None:
    """Nobody books time by writing into what the clock returned."""
    clock, time = running()
    time.passes(1)
    clock.ledger()["other"] = 99
    assert clock.used_seconds() == 1


def test_the_fraction_is_used_over_budget_minus_reserve() -> None:
    """With 20 of 100 seconds kept for the end, 40 seconds are half of the way, and 80 all of it."""
    clock, time = running()
    clock.reserve_seconds = 20
    assert clock.fraction() == 0
    time.passes(40)
    assert clock.fraction() == 0.5
    time.passes(40)
    assert clock.fraction() == 1
    time.passes(40)
    assert clock.fraction() == 1


def test_a_reserve_as_large_as_the_budget_ends_the_run() -> None:
    """There is no time to train, and no division by zero."""
    clock, _ = running()
    clock.reserve_seconds = 100
    assert clock.fraction() == 1
    assert not clock.room_for(0)


@pytest.mark.parametrize(("budget", "expected"), [("100tok", 0.32), ("8steps", 0.25), ("1e18flop", 0.6)])
def test_counted_budgets_are_spent_by_counts_alone(budget: str, expected: float) -> None:
    """Time and reserve move nothing in a run that is measured in tokens, steps or FLOPs."""
    clock, time = running(budget)
    clock.reserve_seconds = 50
    for _ in range(2):
        time.passes(1e6)
        clock.advance(tokens=16, steps=1, flops=3e17)
    assert clock.fraction() == pytest.approx(expected, rel=1e-12)
    assert clock.room_for(1e9)
    clock.advance(tokens=1000, steps=1000, flops=1e18)
    assert clock.fraction() == 1
    assert not clock.room_for(0)


def test_a_step_is_made_while_its_middle_lies_before_the_deadline() -> None:
    """The run ends as near to its budget as whole steps allow, on either side."""
    clock, time = running()
    clock.reserve_seconds = 10
    time.passes(86)
    assert clock.room_for(7.9)
    assert not clock.room_for(8.1)


def test_the_fraction_never_runs_backwards() -> None:
    """A schedule that has fallen does not rise again, whatever is booked."""
    clock, time = running()
    seen = []
    for seconds in (0, 3, 0, 10):
        with clock.activity("x"):
            time.passes(seconds)
        clock.inherit_lost(1.0)
        seen.append(clock.fraction())
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(0.14)


def test_the_fraction_waits_where_a_reserve_shrinks() -> None:
    """A look that took less than the one before gives seconds back, which the schedules take standing still."""
    clock, time = running()
    clock.reserve_seconds = 20
    time.passes(40)
    assert clock.fraction() == 0.5
    clock.reserve_seconds = 0
    assert clock.fraction() == 0.5
    time.passes(8)
    assert clock.fraction() == 0.5
    time.passes(12)
    assert clock.fraction() == 0.6


def test_the_fraction_does_not_fall_between_two_processes() -> None:
    """One that goes on from a checkpoint begins where that had got to, whatever the reserve is now; an older one tells none."""
    clock, time = running()
    clock.reserve_seconds = 20
    time.passes(40)
    assert clock.fraction() == 0.5
    clock.reserve_seconds = 0
    for state, expected in ((clock.state(), 0.5), ({k: v for k, v in clock.state().items() if k != "furthest"}, 0.4)):
        second, _ = running()
        second.restore(state)
        assert second.fraction() == expected


def test_a_state_restores_what_was_used() -> None:
    """A second process goes on from the first one's ledger, counts and reserve."""
    clock, time = running()
    clock.reserve_seconds = 4
    with clock.activity("train"):
        time.passes(30)
    clock.advance(tokens=5, steps=6, flops=7)
    state = clock.state()

    second, later = running()
    second.restore(state)
    assert second.ledger().keys() >= {"train"}
    assert second.used_seconds() == 30
    assert second.counts == {"tokens": 5, "steps": 6, "flops": 7}
    assert second.reserve_seconds == 4
    assert second.state()["counts"] == state["counts"]
    later.passes(18)
    assert second.fraction() == 0.5


def test_work_that_a_kill_destroyed_stays_charged() -> None:
    """The heartbeat saw 50 seconds and the checkpoint 30: the 20 between are booked as lost."""
    clock, time = running()
    time.passes(30)
    state = clock.state()
    second, _ = running()
    second.restore(state, charged_seconds=50)
    assert second.ledger()[LOST] == 20
    assert second.used_seconds() == 50


def test_restoring_keeps_what_this_process_has_booked() -> None:
    """Reading a checkpoint takes time that is charged, on top of what the checkpoint brings."""
    clock, time = running()
    with clock.activity("train"):
        time.passes(30)
    second, later = running()
    with second.activity("restore"):
        later.passes(2)
        second.restore(clock.state(), charged_seconds=37)
        later.passes(3)
    assert spent(second) == {"train": 30, LOST: 7, "restore": 5}


def test_rows_of_several_processes_add_up_by_name() -> None:
    """Training before and after a resume is one row, and losses of two kills are one row."""
    clock, time = running()
    with clock.activity("train"):
        time.passes(30)
    second, later = running()
    second.restore(clock.state(), charged_seconds=32)
    with second.activity("train"):
        later.passes(10)
    third, _ = running()
    third.restore(second.state(), charged_seconds=45)
    assert spent(third) == {"train": 40, LOST: 5}


def test_seconds_before_any_checkpoint_are_lost_and_charged() -> None:
    """A kill during the first compile leaves a heartbeat alone; a checkpoint found later replaces the guess."""
    clock, time = running()
    clock.inherit_lost(12)
    time.passes(3)
    assert clock.ledger() == {LOST: 12, "other": 3}
    first, elapsed = running()
    elapsed.passes(8)
    clock.restore(first.state(), charged_seconds=12)
    assert clock.ledger() == {"other": 11, LOST: 4}
    clock.inherit_lost(0)
    assert clock.ledger() == {"other": 3}


def test_an_older_heartbeat_takes_nothing_away() -> None:
    """The larger of heartbeat and checkpoint counts."""
    clock, time = running()
    time.passes(30)
    second, _ = running()
    second.restore(clock.state(), charged_seconds=10)
    assert second.used_seconds() == 30
    assert LOST not in second.ledger()


@pytest.mark.parametrize("budget", ["10steps", "1000tokens", "1e6flop"])
def test_what_is_taken_back_is_counted_again_and_its_seconds_stay(budget: str) -> None:
    """A budget in steps, tokens or FLOPs is that of the kept trajectory, as after a resume; time is spent."""
    clock, time = running(budget)
    for _ in range(4):
        clock.advance(tokens=100, steps=1, flops=1e5)
    counts = clock.state()["counts"]
    for _ in range(3):
        time.passes(1)
        clock.advance(tokens=100, steps=1, flops=1e5)
    assert clock.fraction() == pytest.approx(0.7)
    clock.take_back(counts)
    assert clock.counts == {"tokens": 400, "steps": 4, "flops": 4e5}
    assert clock.fraction() == pytest.approx(0.4)
    assert clock.used_seconds() == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10", "10s for seconds, 10m for minutes, 10h for hours, 10steps or 10tok"),
        ("10 min", "write 10m"),
        ("10mins", "write 10m"),
        ("2 hours", "write 2h"),
        ("1h30", "write 90m"),
        ("01:30", "write 90m"),
        ("24:00:00", "write 1440m"),
        ("5e9tokenss", "a number and s, m, h, d, tok"),
    ],
)
def test_a_budget_that_a_person_would_understand_is_shown_as_it_is_written(text: str, said: str) -> None:
    """What is suggested is a budget."""
    with pytest.raises(UsageError) as caught:
        Budget.parse(text)
    assert said in caught.value.fix
    if said.startswith("write"):
        assert Budget.parse(said.removeprefix("write ")).seconds


def test_time_of_earlier_processes_is_known_as_theirs() -> None:
    """Also what a kill lost; a process that began the run has none."""
    clock = Clock(Budget.parse("100s"), now=lambda: 0.0)
    clock.inherit_lost(0.0)
    assert not clock.inherited
    clock.inherit_lost(2.0)
    assert clock.inherited
    again = Clock(Budget.parse("100s"), now=lambda: 0.0)
    again.restore(clock.state())
    assert again.inherited
