"""Signals: the first one asks for an end, the second one insists, and the handlers of before come back."""

import os
import signal

import pytest

from gpuday.train.signals import WATCHED, Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_watched_signal_is_kept_by_name(number: signal.Signals) -> None:
    """What a batch system, a person, a spot instance and a closing terminal send."""
    assert number in WATCHED
    with Signals() as signals:
        assert signals.received == ""
        os.kill(os.getpid(), number)
        assert signals.received == number.name


def test_a_second_signal_does_not_wait() -> None:
    """Whoever asks twice wants out now; the first is still the one that is told."""
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == "SIGTERM"
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal was passed over")
    assert signals.received == "SIGTERM"


def test_handlers_are_put_back_even_after_a_fault() -> None:
    """Outside the block Ctrl-C is what it was."""
    before = {number: signal.getsignal(number) for number in WATCHED}
    with pytest.raises(ZeroDivisionError), Signals():
        assert all(signal.getsignal(n) != before[n] for n in WATCHED)
        raise ZeroDivisionError
    assert {number: signal.getsignal(number) for number in WATCHED} == before
