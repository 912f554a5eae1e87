"""Who prepares what in a shared cache: one process at a time for each text, and nobody's remains stay for good."""

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from gpuday.core.rundir import clear_unfinished


@contextlib.contextmanager
def claimed(cache: Path, key: str, report: Callable[..., None]) -> Iterator[None]:
    """Hold the claim to `<cache>/<key>`, after whoever has it: told as `waiting`. The kernel frees that of a dead owner."""
    with open(_lock(cache, key), "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting", lock=file.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def clear_killed(cache: Path) -> None:
    """Remove what killed processes left half-written in the cache, of whatever text; a live one holds its claim."""
    for temporary in sorted(cache.glob(".*.tmp")):
        with open(_lock(cache, temporary.name[1:-4]), "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(temporary, ignore_errors=True)
    clear_unfinished(cache, shared=True)


def _lock(cache: Path, key: str) -> Path:
    return cache / f".{key}.lock"
