"""Signals: the first one asks for an end, at once where that is allowed, and the handlers of before come back."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuday.train import signals as module
from gpuday.train.signals import GRACE, SAME, SAVE_GRACE, WATCHED, Leave, Signals, Stake, obeyed


@pytest.fixture(autouse=True)
def handed() -> Iterator[list[str]]:
    """Names of the signals that came to the handlers of before: those of a notebook, or of the command line. None is
    ignored, as it would be where the tests were started by `nohup` or behind `&`."""
    seen: list[str] = []
    before = {number: signal.signal(number, lambda n, _: seen.append(signal.Signals(n).name)) for number in WATCHED}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_watched_signal_is_kept_by_name(number: signal.Signals) -> None:
    """What a batch system, a person, a spot instance and a closing terminal send."""
    assert number in WATCHED
    with Signals() as signals:
        assert signals.received == ""
        os.kill(os.getpid(), number)
        assert signals.received == number.name


def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks again after a second wants out now; the first is still the one that is told."""
    monkeypatch.setattr(module, "SAME", -1.0)  # the second is over at once
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == "SIGTERM"
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal was passed over")
    assert signals.received == "SIGTERM"


def test_two_signals_at_once_are_one_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` sends one to the process and one to its group; that must not cost the save."""
    monkeypatch.setattr(module, "SAME", 3600.0)  # however slow this machine is
    with Signals() as signals:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        send(signal.SIGINT)
    assert signals.received == "SIGTERM"
    assert 0 < SAME <= 2


def test_handlers_are_put_back_even_after_a_fault() -> None:
    """Outside the block Ctrl-C is what it was."""
    before = {number: signal.getsignal(number) for number in WATCHED}
    with pytest.raises(ZeroDivisionError), Signals():
        assert all(signal.getsignal(n) != before[n] for n in WATCHED)
        raise ZeroDivisionError
    assert {number: signal.getsignal(number) for number in WATCHED} == before


def test_a_run_that_is_to_outlive_its_terminal_does() -> None:
    """`nohup gpuday run` is started with SIGHUP ignored, and it stays so; the other signals are obeyed."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert set(obeyed()) == set(WATCHED) - {signal.SIGHUP}
    with Signals() as signals:
        send(signal.SIGHUP)
        assert signals.received == ""
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("number", WATCHED)
def test_what_the_process_was_started_to_ignore_stays_ignored(number: signal.Signals) -> None:
    """`gpuday run &` in a script ignores SIGINT: a Ctrl-C is meant for the command in the foreground."""
    signal.signal(number, signal.SIG_IGN)
    with Signals() as signals:
        send(number)
        assert signals.received == ""
    assert signal.getsignal(number) is signal.SIG_IGN


def test_in_another_thread_no_signal_is_handled_and_nothing_fails(handed: list[str]) -> None:
    """Where a scheduler or a notebook trains in one: Python allows handlers in the main thread alone."""
    seen: list[object] = []

    def work() -> None:
        with Signals() as signals, signals.interruptible():
            seen.extend([obeyed(), signals.received])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(), ""]
    send(signal.SIGTERM)
    assert handed == ["SIGTERM"]


@pytest.mark.parametrize("number", WATCHED)
def test_a_signal_behind_the_last_look_goes_to_the_handler_before(number: signal.Signals, handed: list[str]) -> None:
    """Nobody would hear it else, and whoever asked would wait for ever."""
    with Signals():
        send(number)
        assert handed == []
    assert handed == [number.name]


def test_a_signal_that_ended_the_block_is_not_handed_on(handed: list[str]) -> None:
    """One wish, one end."""
    with pytest.raises(Leave), Signals() as signals, signals.interruptible():
        send(signal.SIGTERM)
    with Signals() as signals, pytest.raises(Leave), signals.interruptible():
        send(signal.SIGTERM)
    assert handed == []


def test_an_import_is_not_torn_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A native module that is torn out of its start may abort the process. The end of the block is the next chance."""
    (tmp_path / "starts_native_code.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM); whole = True"
    )
    monkeypatch.syspath_prepend(tmp_path)
    reached = []
    with Signals() as signals:
        with pytest.raises(Leave, match="SIGTERM"), signals.interruptible():
            import starts_native_code

            reached.append(starts_native_code.whole)
        with pytest.raises(Leave), signals.interruptible():
            pytest.fail("the block was entered")
    assert reached == [True]
    del sys.modules["starts_native_code"]


@pytest.mark.parametrize("number", WATCHED)
def test_a_signal_tears_an_interruptible_block_away(number: signal.Signals) -> None:
    """Where it stands, as Leave with the signal's name, which no `except Exception` stops."""
    reached = []
    with Signals() as signals, pytest.raises(Leave) as caught, signals.interruptible():
        try:
            send(number)
        except Exception:  # noqa: BLE001 - as compilers do
            reached.append("swallowed")
        reached.append("behind")
    assert caught.value.signal == number.name
    assert reached == []


def test_a_block_is_not_entered_after_a_signal() -> None:
    """One that came between two blocks is met at the next."""
    with Signals() as signals:
        send(signal.SIGUSR1)
        for _ in range(2):
            with pytest.raises(Leave, match="SIGUSR1"), signals.interruptible():
                pytest.fail("the block was entered")


def test_outside_of_a_block_nothing_is_torn_away() -> None:
    """An update or a save is made to its end, also behind a block that was entered and left."""
    with Signals() as signals:
        with signals.interruptible():
            pass
        send(signal.SIGTERM)
        assert signals.received == "SIGTERM"


@pytest.mark.parametrize("become", [None, ImportError("initialization failed"), MemoryError()])
def test_a_block_that_was_met_ends_in_leave_whatever_became_of_it(become: Exception | None) -> None:
    """Destructors swallow exceptions, and the start of a native module makes an ImportError of them."""
    with Signals() as signals, pytest.raises(Leave, match="SIGTERM"), signals.interruptible():
        try:
            send(signal.SIGTERM)
        except BaseException:  # noqa: BLE001
            pass
        if become:
            raise become


def test_a_fault_in_a_block_that_no_signal_met_is_itself() -> None:
    """Also after an earlier block that was torn away."""
    with Signals() as signals:
        with pytest.raises(ZeroDivisionError), signals.interruptible():
            raise ZeroDivisionError
        with pytest.raises(Leave), signals.interruptible():
            send(signal.SIGTERM)
        signals.received = ""
        with pytest.raises(ZeroDivisionError), signals.interruptible():
            raise ZeroDivisionError


def test_a_process_without_work_at_stake_is_ended_soon() -> None:
    """Some seconds after it was asked to leave, or after its last save, if that was later."""
    stake = Stake()
    assert stake.deadline(100.0) == 100.0 + GRACE
    stake.release()
    later = time.monotonic()
    assert stake.deadline(later - 60.0) == stake.since + GRACE <= later + GRACE
    assert GRACE < 5


def test_a_process_with_work_at_stake_has_time_to_save_it() -> None:
    """Two minutes, the longest notice of a cloud; after the save it has seconds again."""
    stake = Stake()
    stake.hold()
    assert stake.deadline(100.0) == 100.0 + SAVE_GRACE
    assert SAVE_GRACE >= 120
    stake.release()
    assert stake.deadline(100.0) == stake.since + GRACE
