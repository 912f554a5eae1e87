"""A command that is watched until it has come to a phase of its work, and what it leaves behind when it ends."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

LONGEST = 300.0  # seconds until a phase is given up


@dataclass(frozen=True)
class Phase:
    """Begins with an event of the run, or with the process where there is none, and is over with the event `until`.

    The signal is sent `delay` seconds after the event, and after a path `appears` that lies below the scratch folder.
    The folder `fresh` is emptied first. Where there is no `until` the command is let go on to its end.
    `tasks` are those that it scores.
    """

    name: str
    run: str
    event: str = ""
    until: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    delay: float = 0.0
    appears: str = ""
    fresh: str = ""
    tasks: str = "none"


class Watched:
    """A command in a session of its own, with the events that it has told so far."""

    def __init__(self, command: Sequence[str], scratch: Path) -> None:
        self._began, self._told, self._errors = time.monotonic(), list[dict[str, Any]](), scratch / "errors"
        folders = {"GPUDAY_CACHE": "cache", "TORCHINDUCTOR_CACHE_DIR": "kernels", "TMPDIR": "tmp"}
        (scratch / "tmp").mkdir(exist_ok=True)
        environment = {**os.environ, **{key: os.fspath(scratch / name) for key, name in folders.items()}}
        self._scratch = scratch
        with open(self._errors, "w", encoding="utf-8") as errors:
            self.process = psutil.Popen(
                command,
                cwd=scratch,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def reaches(self, phase: Phase, run: str) -> bool:
        """Wait for the moment of the signal; whether it came, and the phase was not over by then."""
        if not self._until(phase, lambda: self._after(phase) is not None):
            return False
        if phase.appears and not self._until(phase, lambda: any(self._scratch.glob(phase.appears.format(run=run)))):
            return False
        time.sleep(phase.delay)
        return bool(phase.until) and not self._is_over(phase) and self.process.poll() is None

    def code(self, seconds: float) -> int | None:
        """The exit code; None of a process that had to be killed because it did not end in time."""
        try:
            code: int | None = self.process.wait(seconds)
        except psutil.TimeoutExpired:
            code = None
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return code

    def last_event(self) -> str:
        """The name of the event that was told last."""
        self._reader.join(1.0)  # no longer: a process that is left over may hold the pipe
        return str(self._told[-1].get("event")) if self._told else ""

    def said(self) -> str:
        """What stands on standard error."""
        return self._errors.read_text(encoding="utf-8", errors="replace")

    def _after(self, phase: Phase) -> list[dict[str, Any]] | None:
        """The events behind the one that a phase begins with; None as long as that was not told."""
        if not phase.event:
            return self._told if phase.until else None
        for i, row in enumerate(self._told):
            if row.get("event") == phase.event and phase.values.items() <= row.items():
                return self._told[i + 1 :]
        return None

    def _is_over(self, phase: Phase) -> bool:
        return any(phase.until in (row.get("event"), row.get("stage")) for row in self._after(phase) or ())

    def _until(self, phase: Phase, condition: Callable[[], bool]) -> bool:
        while not condition():
            too_late = time.monotonic() - self._began > LONGEST
            if too_late or self.process.poll() is not None or (phase.until and self._is_over(phase)):
                return False
            time.sleep(0.001)
        return True

    def _read(self) -> None:
        with self.process.stdout as lines:
            for line in lines:
                if line.startswith("{"):
                    self._told.append(json.loads(line))


def left_over(leader: int, children: Sequence[psutil.Process]) -> int:
    """Processes that live on two seconds after: children of the command, and others of its session."""
    until = time.monotonic() + 2.0
    while True:
        of_session = {p.pid for p in psutil.process_iter() if _session(p.pid) == leader and _lives(p)}
        left = of_session | {p.pid for p in children if _lives(p)}
        if not left or time.monotonic() > until:
            return len(left)
        time.sleep(0.05)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
