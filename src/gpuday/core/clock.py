"""The one clock of a run: a budget, how much of it is used, and where every second went.

Time is monotonic and injected (`now`), so that a change of the system's date has no effect and tests need not wait.
Schedules see `fraction()` and nothing else.
"""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpuday.core.errors import UsageError
from gpuday.core.rundir import write_atomic
from gpuday.core.sealed import CHECKSUM, Broken, seal_inside, unseal_inside

Unit = Literal["seconds", "tokens", "steps", "flops"]
UNITS: dict[str, tuple[Unit, float]] = {
    "s": ("seconds", 1.0),
    "m": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "d": ("seconds", 86400.0),
    "tok": ("tokens", 1.0),
    "tokens": ("tokens", 1.0),
    "step": ("steps", 1.0),
    "steps": ("steps", 1.0),
    "flop": ("flops", 1.0),
    "flops": ("flops", 1.0),
}
LOST = "lost to a kill"


EXAMPLES = "a number and s, m, h, d, tok, steps or flop: 10m, 24h, 2e9tok, 5000steps"
SPOKEN = {"sec": "s", "min": "m", "hour": "h", "hr": "h", "day": "d", "token": "tok", "t": "tok"}


def _budget_meant(text: str) -> str:
    """How a budget that a person would understand is to be written."""
    if re.fullmatch(r"[0-9.]+(?:e[0-9]+)?", text.strip()):
        number = text.strip()
        return f"say of what: {number}s for seconds, {number}m for minutes, {number}h for hours, {number}steps or {number}tok; 24h is a day"
    if match := re.fullmatch(r"([0-9]+):([0-9]{2})(?::[0-9]{2})?", text.strip()):
        return f"write {int(match[1]) * 60 + int(match[2])}m, as it would be in hours and minutes; 24h is a day"
    if match := re.fullmatch(r"([0-9.]+)h([0-9]+)m?", text.strip().lower().replace(" ", "")):
        return f"write {float(match[1]) * 60 + int(match[2]):g}m; 24h is a day"
    match = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)([a-z]+?)(s?)", text.strip().lower().replace(" ", ""))
    if match and (unit := SPOKEN.get(match[2]) or SPOKEN.get(match[2] + match[3])):
        return f"write {match[1]}{unit}; 24h is a day"
    return f"write {EXAMPLES}"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run may spend: an amount of one unit. Only `seconds` is the headline; the others repeat to the bit."""

    amount: float
    unit: Unit

    def __post_init__(self) -> None:
        if not 0.0 < self.amount < float("inf"):
            raise UsageError(
                f"{self.amount:g} {self.unit} is not a budget",
                where="budget",
                fix="give more than 0 and less than 1e308",
            )
        if self.unit in ("steps", "tokens") and self.amount % 1:
            raise UsageError(
                f"{self.amount:g} is not a whole number of {self.unit}",
                where="budget",
                fix=f"give 1 or more, such as {max(1, round(self.amount))}{self.unit}",
            )

    @staticmethod
    def parse(text: str) -> "Budget":
        """`10m`, `24h`, `2e9tok`, `5000steps`, `1e18flop`. Raises UsageError for anything else."""
        match = re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)([a-z]+)", text.strip().lower().replace("_", ""))
        if match and match[2] in UNITS:
            with contextlib.suppress(ValueError):  # 1.2.3 matches and is no number
                unit, scale = UNITS[match[2]]
                return Budget(amount=float(match[1]) * scale, unit=unit)
        raise UsageError(f"{text!r} is not a budget", where="--budget", fix=_budget_meant(text))

    @property
    def seconds(self) -> float | None:
        """Seconds of a wall-clock budget, else None."""
        return self.amount if self.unit == "seconds" else None


class Clock:
    """Books every second of training on one activity, and says which fraction of the budget is used.

    `reserve_seconds` is the measured time of what must still happen after the last step (final validation, saving):
    the schedules reach their end that much before the deadline. It has no meaning for budgets in other units. A reserve
    that turns out smaller does not take a schedule back: it waits at the fraction it has reached.
    """

    def __init__(self, budget: Budget, *, now: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget
        self.reserve_seconds = 0.0
        self._furthest = 0.0  # fraction of a wall-clock budget
        self.counts: dict[str, float] = {"tokens": 0.0, "steps": 0.0, "flops": 0.0}
        self._now = now
        self._inherited: dict[str, float] = {}  # booked by the processes before this one
        self._ledger: dict[str, float] = {}
        self._activity = "other"
        self._since: float | None = None
        self._lock = threading.Lock()  # the heartbeat reads from its own thread

    def start(self) -> None:
        """Set the clock going; called once when `train()` is entered."""
        with self._lock:
            self._settle()
            self._since = self._now()

    def stop(self) -> None:
        """Let the clock stand: the final weights are durable, or the process is about to end."""
        with self._lock:
            self._settle()
            self._since = None

    @contextlib.contextmanager
    def activity(self, name: str) -> Iterator[None]:
        """Book the time inside the block on `name`; blocks nest, the innermost gets the time."""
        with self._lock:
            outer = self._activity
            self._settle()
            self._activity = name
        try:
            yield
        finally:
            with self._lock:
                self._settle()
                self._activity = outer

    def advance(self, *, tokens: float, steps: float, flops: float) -> None:
        """Count what a step consumed."""
        for name, amount in (("tokens", tokens), ("steps", steps), ("flops", flops)):
            self.counts[name] += amount

    def used_seconds(self) -> float:
        """Seconds charged so far, this process and those before it."""
        return sum(self.ledger().values())

    @property
    def inherited(self) -> bool:
        """Whether processes before this one had spent time on the run."""
        with self._lock:
            return any(self._inherited.values())

    def ledger(self) -> dict[str, float]:
        """Seconds by activity; the rows add up to `used_seconds()`."""
        with self._lock:
            self._settle()
            both = dict(self._inherited)
            for name, seconds in self._ledger.items():
                both[name] = both.get(name, 0.0) + seconds
            return both

    def fraction(self) -> float:
        """Used share of budget minus reserve, in [0, 1]; by the wall clock it never falls."""
        if self.budget.unit == "seconds":
            usable = self.budget.amount - self.reserve_seconds
            share = 1.0 if usable <= 0 else min(1.0, self.used_seconds() / usable)
            self._furthest = max(self._furthest, share)
            return self._furthest
        return min(1.0, self.counts[self.budget.unit] / self.budget.amount)

    def room_for(self, seconds: float) -> bool:
        """Whether a step that takes `seconds` ends nearer to the deadline if it is made than if it is not."""
        if self.budget.unit == "seconds":
            return self.used_seconds() + 0.5 * seconds < self.budget.amount - self.reserve_seconds
        return self.counts[self.budget.unit] < self.budget.amount

    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` continues."""
        return {
            "ledger": self.ledger(),
            "counts": dict(self.counts),
            "reserve_seconds": self.reserve_seconds,
            "furthest": self._furthest,
        }

    def restore(self, state: dict[str, Any], *, charged_seconds: float = 0.0, rest: str = LOST) -> None:
        """Continue from the state of an earlier process; what this one has booked already stays booked.

        `charged_seconds` is the latest heartbeat: what it has over the state is booked on `rest`, by default as lost.
        """
        inherited = {str(k): float(v) for k, v in state["ledger"].items()}
        lost = charged_seconds - sum(inherited.values())
        if lost > 0:
            inherited[rest] = inherited.get(rest, 0.0) + lost
        with self._lock:
            self._inherited = inherited
        self.take_back(state["counts"])
        self.reserve_seconds = float(state["reserve_seconds"])
        self._furthest = max(self._furthest, float(state.get("furthest", 0.0)))  # an earlier version did not write it

    def take_back(self, counts: dict[str, float]) -> None:
        """Count on from the counts of an earlier state: what was consumed since is not in the weights. Its seconds stay
        charged. A resume does the same, so that a number of steps, tokens or FLOPs is that of the kept trajectory."""
        self.counts = {k: float(counts[k]) for k in self.counts}

    def inherit_lost(self, seconds: float) -> None:
        """Start from seconds that earlier processes spent, before it is known on what."""
        with self._lock:
            self._inherited = {LOST: seconds} if seconds > 0 else {}

    def _settle(self) -> None:
        if self._since is None:
            return
        now = self._now()
        self._ledger[self._activity] = self._ledger.get(self._activity, 0.0) + (now - self._since)
        self._since = now


class Heartbeat:
    """Writes the clock to disk once a second from its own thread, so that a kill during a compile is charged too.

    `stopped` is true on the last one of a process that left by itself with all its work saved (`left_nothing`): what it
    has over the checkpoint's clock was the save, not work that was lost.
    """

    def __init__(self, clock: Clock, path: Path, *, seconds: float = 1.0) -> None:
        self._clock, self._path, self._seconds = clock, path, seconds
        self._stop = threading.Event()
        self._kept: float | None = None
        self.left_nothing = False  # set once a save holds all the work there was
        self._thread = threading.Thread(target=self._run, daemon=True, name="gpuday-heartbeat")
        self._writing = threading.Lock()

    def beat(self) -> None:
        """Write the clock now, so that no kill sets it back behind what is about to be told of it."""
        self._write(stopped=False)

    def keep(self, seconds: float) -> None:
        """Leave this on disk in the end instead of the clock: nothing was trained."""
        self._kept = seconds

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._write(stopped=self.left_nothing)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._write(stopped=False)

    def _write(self, *, stopped: bool) -> None:
        # Not fsynced: after a power cut the checkpoint's own clock still stands, and a second is at stake at most
        # between two kernel write-backs; an fsync each second would steal time from the checkpoints' own.
        with (
            self._writing,
            contextlib.suppress(OSError),
        ):  # a full disk must not stop training: the checkpoint's clock remains
            used = self._clock.used_seconds() if self._kept is None else self._kept
            write_atomic(self._path, seal_inside({"used_seconds": used, "stopped": stopped}), durable=False)


def read_heartbeat(path: Path) -> tuple[float, bool]:
    """Seconds on the last heartbeat, and whether its process left by itself. Raises Broken for one that is damaged.

    A flipped digit would charge a run hours that nobody used. One without a checksum is of an earlier version.
    """
    try:
        raw = path.read_bytes()
        beat = json.loads(raw)
        if not isinstance(beat, dict):
            raise Broken("not a dictionary")
        if CHECKSUM in beat:
            beat = unseal_inside(raw)
        if beat.keys() != {"used_seconds", "stopped"} or not isinstance(beat["stopped"], bool):
            raise Broken("other keys")
        used = float(beat["used_seconds"])
    except (OSError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise Broken("unreadable") from error
    if not 0.0 <= used < float("inf"):
        raise Broken("no time")
    return used, beat["stopped"]
