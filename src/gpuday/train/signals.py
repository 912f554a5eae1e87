"""Signals that ask for an end: obeyed at once where only work in hand is lost, else behind the update or save being made.

Python runs a handler in the main thread, between two instructions. Native code may hold it up; who owns the process
(`gpuday.cli.leaving`) therefore has a thread that ends it, by the times given here, when nobody else did.
"""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
SAME = 1.0  # seconds within which signals are one wish: `timeout`, `torchrun` and a terminal may each send two
GRACE = 3.0  # seconds for the way out, where every step that was made is on disk
SAVE_GRACE = 120.0  # and where one is not: the longest notice that clouds give before they take a machine away
IMPORT = "<frozen importlib._bootstrap>"

Interruptible = Callable[[], AbstractContextManager[None]]  # makes a block that a signal may tear away


class Leave(KeyboardInterrupt):
    """A signal came, and the main thread stood where it may be torn away. No `except Exception` stops it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.signal = name


@dataclass
class Stake:
    """Whether the process holds steps that no checkpoint has, and since when it does not."""

    held: bool = False
    since: float = 0.0

    def hold(self) -> None:
        """A step was made."""
        self.held = True

    def release(self) -> None:
        """A checkpoint has all there is."""
        self.held, self.since = False, time.monotonic()

    def deadline(self, asked: float) -> float:
        """The moment after which a process that was asked to leave at `asked` is ended, by the monotonic clock."""
        return asked + SAVE_GRACE if self.held else max(asked, self.since) + GRACE


STAKE = Stake()  # of this process: it trains one run at a time


def obeyed() -> tuple[signal.Signals, ...]:
    """The watched signals that this thread may handle: none but in the main one, and none that the process was started to
    ignore, as SIGHUP by `nohup`, or SIGINT behind `&` in a script, where a Ctrl-C is meant for another command."""
    if threading.current_thread() is not threading.main_thread():
        return ()
    return tuple(number for number in WATCHED if signal.getsignal(number) is not signal.SIG_IGN)


def importing(frame: FrameType | None) -> bool:
    """Whether an import is under way: a native module that is torn out of its start may abort the process."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORT:
            return True
        frame = frame.f_back
    return False


class Signals:
    """Inside the block `received` holds the name of the first signal that came; the handlers before are put back, and
    get one that the block was left without regard to, since it came behind the last look.

    Within `interruptible()` a signal raises Leave where the main thread stands. A second one, SAME seconds after the first
    or later, raises KeyboardInterrupt anywhere; the last checkpoint is then what a resume begins from.
    """

    def __init__(self) -> None:
        self.received = ""
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}
        self._region = Region(self)

    def __enter__(self) -> "Signals":
        for number in obeyed():
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        STAKE.release()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.received and error is None and not self._region.met:
            signal.raise_signal(signal.Signals[self.received])

    def interruptible(self) -> "Region":
        """A block that a signal may tear away at any instruction: it touches nothing that is saved, holds no lock
        that is needed afterwards, and waits for no other rank. Blocks do not nest."""
        return self._region

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received, self._first = signal.Signals(number).name, time.monotonic()
            if not importing(frame):  # else the end of the block is the next chance
                self._region.tear()
        elif time.monotonic() - self._first > SAME:  # whoever asks twice does not want to wait for the save
            raise KeyboardInterrupt


class Region:
    """The interruptible block of `Signals`. One that a signal has met ends in Leave, whatever became of the exception on
    its way: destructors and native callbacks drop it, and the start of a native module makes another of it."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._open = self._torn = False
        self.met = False  # whether Leave was raised: somebody knows of the signal

    def __enter__(self) -> None:
        self._torn, self._open = False, True
        if self._signals.received:  # asked behind the line above: a signal in between raises by itself
            self.tear()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        spared = self._open and error is None and bool(self._signals.received)
        self._open = False
        if spared or (self._torn and not isinstance(error, Leave)):
            self.met = True
            raise Leave(self._signals.received) from None

    def tear(self) -> None:
        """Raise Leave if the block is open. It counts as closed from here on, since its end may not be reached."""
        if self._open:
            self._open, self._torn, self.met = False, True, True
            raise Leave(self._signals.received)
