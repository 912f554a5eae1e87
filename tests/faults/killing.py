"""Kills a command again and again until it is done: the harness of `test_kill.py` and of `tools/soak.py`.

A place is a folder with a preset, a task's files and a cache of its own, in which one command is given. An attempt is one
process of that command, in a process group of its own; its events are read as they come. It is started as anybody starts
it, or forked with torch loaded, which takes a tenth of the time.
"""

import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gpuday.core.journal import Start, Step, Validation, read
from gpuday.core.rundir import RunDir, read_json

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 300.0  # for one attempt, on however busy a machine
ROOMS = (
    *("starting", "preparing", "fitting", "building", "compiling", "looking", "stepping", "saving"),
    *("evaluating", "exporting", "reporting", "leaving"),
)
PRESET = """
base = "modern"
size = "nano"
budget = "{budget}"

[data]
corpus = ["synthetic:20000"]
vocab = 512
length = 32

[model]
width = 64
mixer = {{ head_width = 16 }}
shape = {{ layers = 2 }}

[batch]
rows = 8

[train]
microbatch = 4
compile = "{compile}"
dtype = "float32"
save_every_seconds = {save_every}
validate_every = 0.02
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder and the command that is given in it; equal commands in two places are equal runs."""

    folder: Path
    command: tuple[str, ...]

    @property
    def run(self) -> RunDir:
        return RunDir(self.folder / "runs" / "one")

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def environment(self) -> dict[str, str]:
        """Nothing outside of the folder is read or filled; one thread, so that places may work beside each other."""
        own = {
            "PYTHONPATH": str(ROOT / "src"),
            "GPUDAY_CACHE": str(self.cache),
            "XDG_CACHE_HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "compiled"),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        return {**os.environ, **own}


def make_place(
    folder: Path,
    *,
    budget: str,
    command: str = "run",
    program: Sequence[str] = ("-m", "gpuday"),
    compile_: str = "off",
    save_every: float = 0.03,
) -> Place:
    """A new folder with all that `gpuday run` or `gpuday train` of a model of 0.1 million parameters needs."""
    (folder / "tmp").mkdir(parents=True)
    preset = PRESET.format(budget=budget, compile=compile_, save_every=save_every)
    (folder / "tiny.toml").write_text(preset)
    _write_task(folder / "tasks" / "CoLA")
    tasks = ("--tasks", "cola", "--task-data", "tasks", "--task-seeds", "2") if command == "run" else ()
    return Place(
        folder=folder,
        command=(sys.executable, *program, command, "tiny.toml", *tasks, "--out", "runs/one", "--json"),
    )


def _write_task(folder: Path) -> None:
    """Rows of a task with two classes whose words differ a little."""
    draw = random.Random(1805_12471)
    words = ["these", "rafols", "gitret", "this", "luplol", "behind", "beside", "under", "near", "stan", "prem", "trul"]
    folder.mkdir(parents=True)
    for name, count in (("train", 160), ("dev", 32)):
        rows = [
            {"text_a": " ".join(draw.choices(words[:8] if n % 2 else words[4:], k=8)), "label": n % 2}
            for n in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


Launch = Callable[..., Any]
whole: Launch = functools.partial(subprocess.Popen, start_new_session=True)


class Attempt:
    """A process of a place's command."""

    def __init__(self, place: Place, launch: Launch = whole) -> None:
        self.place, self.events, self.began = place, list[dict[str, Any]](), time.monotonic()
        with open(place.folder / "err.txt", "wb") as err:
            self.process = launch(
                place.command, cwd=place.folder, env=place.environment(), stdout=subprocess.PIPE, stderr=err
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # torn by the kill
                self.events.append(json.loads(line))

    def told(self, event: str, **values: Any) -> bool:
        """Whether it has told this event, with these values."""
        wanted = {"event": event, **values}
        return any(wanted.items() <= told.items() for told in list(self.events))

    def wait(self, met: Callable[["Attempt"], bool]) -> None:
        """Until `met`, or until the process has ended."""
        deadline = self.began + LIMIT_SECONDS
        while not met(self) and self.process.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"{self.place.folder} is not done after {LIMIT_SECONDS:.0f} s")
            time.sleep(0.001)

    def kill(self) -> bool:
        """SIGKILL to the whole group; False if the command was done before."""
        if (done := self.process.poll()) not in (None, 0):
            raise RuntimeError(f"ended with {done}: {self.errors()}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.end() != 0

    def end(self) -> int:
        """Wait for the end; the exit code. Whatever it told is then among the events."""
        code = self.process.wait(LIMIT_SECONDS)
        self._reader.join()
        self.process.stdout.close()  # type: ignore[union-attr]
        return code

    def errors(self) -> str:
        return (self.place.folder / "err.txt").read_text(errors="replace")


class Kill(NamedTuple):
    """A kill that met its command: where, how many seconds after its start, and what the clock on disk said then."""

    room: str
    seconds: float
    charged: float


@dataclass
class Campaign:
    """A place's command, killed and given again until it is done."""

    place: Place
    launch: Launch = whole
    """Starts an attempt that is to be killed; the last is always a whole process."""
    kills: list[Kill] = field(default_factory=list)
    done: bool = False

    def strike(self, met: Callable[[Attempt], bool], delay: float = 0.0) -> str | None:
        """Give the command and kill it `delay` seconds after `met`. The room, or None if it was done before."""
        attempt = Attempt(self.place, self.launch)
        attempt.wait(met)
        with contextlib.suppress(subprocess.TimeoutExpired):
            attempt.process.wait(timeout=delay)
        seconds = time.monotonic() - attempt.began
        if not attempt.kill():
            self.done = True
            return None
        self.kills.append(Kill(room(attempt), seconds, charged(self.place.run)))
        return self.kills[-1].room

    def finish(self) -> float:
        """Give the command until it is done, undisturbed; the seconds that it took."""
        attempt = Attempt(self.place)
        if code := attempt.end():
            raise RuntimeError(f"ended with {code}: {attempt.errors()}")
        self.done = True
        return time.monotonic() - attempt.began


def charged(run: RunDir) -> float:
    """Seconds on the heartbeat on disk, 0 where there is none."""
    return float(read_json(run.heartbeat)["used_seconds"]) if run.heartbeat.exists() else 0.0


def room(attempt: Attempt) -> str:
    """Where a killed process was: by what it had told, and by what it left on disk."""
    run = attempt.place.run
    if not attempt.told("run"):
        return "starting"
    if attempt.told("trained"):
        return _room_after_training(attempt, run)
    if not run.data.exists():
        return "preparing"
    if not attempt.told("start"):
        return "building" if run.fit.exists() else "fitting"
    if any(p.name.startswith(".") for p in run.checkpoints.glob("*")):
        return "saving"
    own: list[Any] = []
    for _, row in read(run.journal):
        own = [row] if isinstance(row, Start) else [*own, row]
    steps = [row.step for row in own if isinstance(row, Step)]
    if own[0].compiled and not steps:
        return "compiling"
    looks = [row for row in own if isinstance(row, Validation)]
    first, last = not own[0].step and not looks, steps[-1:] == [last_step(run)]
    return "looking" if first or (last and not any(look.final for look in looks)) else "stepping"


def _room_after_training(attempt: Attempt, run: RunDir) -> str:
    if attempt.told("report") or "train" in attempt.place.command:
        return "leaving"
    if attempt.told("export"):
        return "reporting"
    building = run.model.with_name(f".{run.model.name}.new")
    return "exporting" if building.exists() or any("median" in event for event in attempt.events) else "evaluating"


def last_step(run: RunDir) -> int:
    """Steps of a step budget; 0 for another one."""
    budget = read_json(run.recipe)["budget"]
    return int(budget["amount"]) if budget["unit"] == "steps" else 0
