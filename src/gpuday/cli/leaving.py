"""How a command ends when a signal asks it to: within seconds, with exit code 75 and the command that goes on.

A signal raises Leave in the main thread; while a run is trained, `gpuday.train.signals` decides where. What is on disk is
whole at every moment, so that whoever does not come out in time is ended: by a thread that hears every signal, since native
code and threads that are waited for hold up Python's own handlers.
"""

import contextlib
import ctypes
import os
import select
import shlex
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, NoReturn

from gpuday.core.errors import Interrupted
from gpuday.core.launched import by_launcher, leads
from gpuday.core.printable import plain
from gpuday.train.signals import GRACE, SAME, STAKE, WATCHED, Leave, importing, obeyed

LOOK_SECONDS = 0.1  # between two looks at the clock, once a signal came
SHOW_CURSOR = b"\x1b[?25h"  # the live line hides it
PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl


def go_on(tokens: Sequence[str]) -> str:
    """What to type to go on, for the arguments of this command; or to begin anew, where nothing of it was kept."""
    if tokens[:1] == ["predict"]:
        return f"answers are kept when all are there; the same command begins anew: {shlex.join(['gpuday', *tokens])}"
    if by_launcher():
        return "give the same torchrun command again to go on"
    return f"give the same command again to go on: {shlex.join(['gpuday', *tokens])}"


class Leaving:
    """Inside the block the signals raise Leave. `owns`: the process is this command's alone, and may be ended.

    A process that is owned keeps its handlers to its end, so that the way out cannot hang either.
    """

    def __init__(self, tokens: Sequence[str], *, owns: bool) -> None:
        self.asked = ""
        self._owns, self._fix = owns, go_on(tokens)
        self._over = False
        self._claimed = threading.Lock()  # by whoever says how it ends: one message
        self._code = Interrupted.exit_code
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Leaving":
        for number in obeyed():
            self._before[number] = signal.signal(number, self._handle)
        if self._owns and self._before:
            self._start_watching()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over = True
        if isinstance(error, SystemExit) and isinstance(error.code, int):  # by somebody who knows how to end
            self._code = error.code
            self._claimed.acquire(blocking=False)
        if not self._owns:
            for number, handler in self._before.items():
                signal.signal(number, handler)
        if self.asked and error is None:  # what was raised then got lost on its way
            raise Leave(self.asked)

    def error(self, error: BaseException) -> Interrupted | None:
        """The interruption that an error is, or comes from; None for any other. One that was raised from Leave is not:
        whoever did so knows better why the signal came."""
        if isinstance(error, Interrupted):
            return Interrupted(error.what, where=error.where, fix=self._fix)
        if isinstance(error, KeyboardInterrupt) or (self.asked and not isinstance(error.__cause__, Leave)):
            return Interrupted(f"{self.asked or 'SIGINT'}: stopped", fix=self._fix)
        return None

    def end(self, code: int) -> NoReturn:
        """Leave with this code, what there is to say being said. After an interruption nothing is waited for."""
        self._code = code
        self._claimed.acquire(blocking=False)
        if self._owns and code == Interrupted.exit_code:
            self._vanish()
        sys.exit(code)

    def claim(self) -> bool:
        """Whether the caller is the one who says how it ends. Of several ranks the first alone tells an interruption."""
        if self._claimed.acquire(blocking=False):
            return True
        time.sleep(2 * GRACE)  # the process ends meanwhile
        return False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked or self._over:  # on the way out already; a second wish is the watching thread's affair
            return
        self.asked = signal.Signals(number).name
        if self._owns and importing(frame):
            self._cut_off(self.asked)
        raise Leave(self.asked)

    def _start_watching(self) -> None:
        if sys.platform == "linux":  # what a killed compiler driver leaves running becomes this one's, to be found
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        heard, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=self._forget)
        threading.Thread(target=self._watch, args=(heard,), daemon=True, name="gpuday-signals").start()

    def _forget(self) -> None:
        """A forked process must not report its signals here, nor outlive them."""
        signal.set_wakeup_fd(-1)
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)

    def _watch(self, heard: int) -> None:
        name, asked = "", 0.0
        while True:
            ready, _, _ = select.select([heard], [], [], LOOK_SECONDS if name else None)
            came = [n for n in os.read(heard, 4096) if n in WATCHED] if ready else []
            if came and not name:
                name, asked = signal.Signals(came[0]).name, time.monotonic()
            elif came and time.monotonic() - asked > SAME:
                self._cut_off(f"{signal.Signals(came[0]).name} after {name}")
            if name and time.monotonic() > STAKE.deadline(asked):
                self._cut_off(name)

    def _cut_off(self, name: str) -> NoReturn:
        """End the process from any thread."""
        if self._claimed.acquire(blocking=False) and leads():
            text = f"error: {Interrupted(f'{name}: stopped', fix=self._fix)}\n"
            with contextlib.suppress(OSError):
                shown = plain(text, also="\n").encode(errors="replace")
                os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, shown)
        self._vanish()

    def _vanish(self) -> NoReturn:
        """End the process and those that it started, waiting for nothing."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        with contextlib.suppress(OSError):
            if os.isatty(1):
                os.write(1, SHOW_CURSOR)
        with contextlib.suppress(
            ImportError, AttributeError
        ):  # a signal may have come while psutil itself was imported
            _end_children()
        os._exit(self._code)


def _end_children() -> None:
    import psutil  # here alone: what is never interrupted, such as --help, does without

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
