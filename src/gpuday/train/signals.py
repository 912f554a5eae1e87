"""Signals that ask for an end: the loop finishes the present step, saves, and leaves."""

import signal
from types import FrameType
from typing import Any

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class Signals:
    """Inside the block `received` holds the name of the first signal that came; the handlers before are put back.

    A second signal raises KeyboardInterrupt at once; the last checkpoint is then what a resume begins from.
    """

    def __init__(self) -> None:
        self.received = ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        for number in WATCHED:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received:  # asked twice: whoever asks does not want to wait for the step
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
