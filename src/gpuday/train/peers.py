"""The other ranks of a run: where each process lives, and which of them are gone when a collective fails.

What gloo and NCCL then say names a socket at best. So the ranks tell each other host and process when they join, and
whoever hears a collective fail looks which of those on its own host run no more. The launcher keeps the store through
which they talk, so that it outlives them; a rank that leaves because another is gone says so there, and is not taken
for a dead one by those that leave after it.
"""

import json
import os
import re
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch.distributed as dist

from gpuday.core.errors import EnvironmentFault

GRACE = 2.0  # seconds: the sockets of a process that is killed close a moment before it counts as dead
DISCONNECTED = re.compile(r"connect|socket|peer|broken pipe|timed? ?out|abort", re.IGNORECASE)


class RankGone(EnvironmentFault):
    """Other ranks are no longer there. `told`: another process of this host says so, or the fault, already."""

    def __init__(self, what: str, *, where: str, fix: str, told: bool) -> None:
        super().__init__(what, where=where, fix=fix)
        self.told = told


def beginning(pid: int) -> float:
    """When a process of this host began, where the kernel tells by a clock that nobody sets: in ticks since the host's start.
    Else in seconds. Raises psutil.NoSuchProcess."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return psutil.Process(pid).create_time()


@dataclass(frozen=True)
class Process:
    """A rank's process. Ids are compared within one space only: a host's, or a container's on it."""

    host: str
    space: str
    pid: int
    began: float

    @staticmethod
    def own() -> "Process":
        host, here = socket.gethostname(), Path("/proc/self/ns/pid")
        space = f"{host} {os.readlink(here)}" if here.is_symlink() else host
        return Process(host, space, os.getpid(), beginning(os.getpid()))

    def status(self) -> str:
        """psutil's word for it; of a process that ended, waited for or not, `dead`. To be asked on its own host."""
        try:
            status = psutil.Process(self.pid).status()
            ended = status == psutil.STATUS_ZOMBIE or beginning(self.pid) != self.began
        except psutil.NoSuchProcess:
            return psutil.STATUS_DEAD
        return psutil.STATUS_DEAD if ended else status


class Peers:
    """All ranks of a run as rank `rank` of `size` knows them. To be made by all of them; waits for the last."""

    def __init__(self, store: dist.Store, rank: int, size: int) -> None:
        self._store, self._rank, self._own = dist.PrefixStore("gpuday", store), rank, Process.own()
        self._store.set(f"process {rank}", json.dumps(asdict(self._own)))
        self._claimed: dict[str, bool] = {}
        self._all = [Process(**json.loads(self._store.get(f"process {r}"))) for r in range(size)]

    def leave(self, *, followed: bool = False) -> None:
        """Tell the others that this rank leaves: by a fault of its own, which it prints, or following others."""
        try:
            self._store.set(f"left {self._rank}", "followed" if followed else "fault")
        except dist.DistError:  # the launcher is gone too
            return
        if not followed:
            self.claim()

    def fault(self, error: BaseException) -> RankGone | None:
        """What `error`, raised by a collective or a signal, comes from: ranks that are gone, of which it is told.

        None where all ranks of this host run, and the error does not read like a lost connection or a time limit.
        """
        self.leave(followed=True)
        until = time.monotonic() + (GRACE if isinstance(error, RuntimeError) else 0.0)
        while True:
            dead, left = self._gone()
            faulty = [r for r, why in left.items() if why == "fault"]
            if dead or faulty or time.monotonic() >= until:
                break
            time.sleep(0.05)
        resume = "the same command goes on from the last checkpoint, also with fewer ranks"
        if dead:
            what, fix = f"{self._names(dead)} {_are(dead)} gone: killed, or crashed", resume
        elif faulty:
            what = f"{self._names(faulty)} left by a fault of {'its' if len(faulty) == 1 else 'their'} own"
            fix = f"mend what is printed there; {resume}"
        elif not isinstance(error, RuntimeError) or not (
            isinstance(error, dist.DistError) or DISCONNECTED.search(str(error))
        ):
            return None
        elif stopped := [r for r, p in self._here() if p.status() == psutil.STATUS_STOPPED]:
            what, fix = f"{self._names(stopped)} {_are(stopped)} stopped and did not answer in time", resume
        elif len(self._here()) < len(self._all) - 1:
            what, fix = "a rank on another node is gone, or one hangs", f"see what the other nodes print; {resume}"
        else:
            what, fix = "a rank did not answer in time, and all of them run: one hangs, or is far too slow", resume
        return RankGone(what, where=" ".join(str(error).split()), fix=fix, told=not self.claim())

    def dead(self) -> list[int]:
        """The ranks on this host whose processes ended without a word."""
        return self._gone()[0]

    def _gone(self) -> tuple[list[int], dict[int, str]]:
        """The ranks on this host whose processes ended without a word, and why others left, by rank.

        Who has ended is asked first: a rank that says why it leaves says it before it ends, and so its end is never seen
        without its word.
        """
        ended = [r for r, p in self._here() if p.status() == psutil.STATUS_DEAD]
        left = self._left()
        return [r for r in ended if r not in left], left

    def _here(self) -> list[tuple[int, Process]]:
        """The other ranks in this process's space."""
        return [(r, p) for r, p in enumerate(self._all) if p.space == self._own.space and r != self._rank]

    def _left(self) -> dict[int, str]:
        """Why ranks have left, by rank; empty when nobody keeps the store any more."""
        try:
            return {
                r: self._store.get(f"left {r}").decode()
                for r in range(len(self._all))
                if r != self._rank and self._store.check([f"left {r}"])
            }
        except dist.DistError:
            return {}

    def claim(self, what: str = "") -> bool:
        """Whether this process is the first of its host to print a fault, or to say why it ends; if nobody knows, it is."""
        if what not in self._claimed:
            try:
                self._claimed[what] = self._store.add(f"told {self._own.space} {what}", 1) == 1
            except dist.DistError:
                self._claimed[what] = True
        return self._claimed[what]

    def _names(self, ranks: list[int]) -> str:
        return ", ".join(f"rank {r} (process {self._all[r].pid} on {self._all[r].host})" for r in ranks)


def _are(ranks: list[int]) -> str:
    return "is" if len(ranks) == 1 else "are"
