"""Signals: the first one asks for an end, none ends the process, and the handlers of before come back."""

import os
import signal

import pytest

from gpuday.train.signals import WATCHED, Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_watched_signal_is_kept_by_name(number: signal.Signals) -> None:
    """What a batch system, a person and a spot instance send."""
    assert number in WATCHED
    with Signals() as signals:
        assert signals.received == ""
        os.kill(os.getpid(), number)
        assert signals.received == number.name


def test_the_first_signal_is_the_one_that_is_told() -> None:
    """An impatient second Ctrl-C neither kills the save nor rewrites the reason."""
    with Signals() as signals:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            os.kill(os.getpid(), number)
    assert signals.received == "SIGTERM"


def test_handlers_are_put_back_even_after_a_fault() -> None:
    """Outside the block Ctrl-C is what it was."""
    before = {number: signal.getsignal(number) for number in WATCHED}
    with pytest.raises(ZeroDivisionError), Signals():
        assert all(signal.getsignal(n) != before[n] for n in WATCHED)
        raise ZeroDivisionError
    assert {number: signal.getsignal(number) for number in WATCHED} == before
