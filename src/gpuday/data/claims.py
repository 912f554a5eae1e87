"""Who prepares what in a shared cache: one process at a time for each text, and nobody's remains stay for good."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gpuday.core.errors import EnvironmentFault
from gpuday.core.rundir import SHARED_AGE, clear_unfinished

_CACHE = "the cache is moved with the variable GPUDAY_CACHE"


@contextlib.contextmanager
def claimed(cache: Path, key: str, report: Callable[..., None]) -> Iterator[None]:
    """Hold the claim to `<cache>/<key>`, after whoever has it: told as `waiting`. The kernel frees that of a dead owner.

    Raises EnvironmentFault where the file system has no locks.
    """
    path = _lock(cache, key)
    with _opened(path) as handle:
        try:
            if not _taken(handle):
                report("waiting", lock=str(path))
                fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise EnvironmentFault(
                f"{cache} lies on a file system without locks: {error.strerror}",
                where="two processes could prepare one text there at once",
                fix=f"mount it with locks; {_CACHE}",
            ) from error
        yield


def clear_killed(cache: Path) -> None:
    """Remove what killed processes left half-written in the cache a day ago, of whatever text; a live one holds its claim.

    Not sooner: where locks hold on one machine only, the claim of a live one on another is not seen. What is another
    user's stays, and stops nobody.
    """
    for temporary in sorted(cache.glob(".*.tmp")):
        with contextlib.suppress(OSError):
            if _newest(temporary) > time.time() - SHARED_AGE:
                continue
            with _opened(_lock(cache, temporary.name[1:-4])) as handle:
                if _taken(handle):
                    shutil.rmtree(temporary, ignore_errors=True)
    clear_unfinished(cache, shared=True)


def clear_own(temporary: Path) -> None:
    """An empty folder in the place of what a killed process left; for who holds the claim to it.

    Raises EnvironmentFault where that is another user's.
    """
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
    except FileExistsError as error:
        raise EnvironmentFault(
            f"{temporary} is left from a preparation that was killed, and cannot be removed",
            where=f"it belongs to user number {temporary.lstat().st_uid}",
            fix=f"have its owner remove it; {_CACHE}",
        ) from error


@contextlib.contextmanager
def _opened(lock: Path) -> Iterator[int]:
    """A handle of a lock's file, made if there is none. That of another user may only be read, and locks as well."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except PermissionError:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    """Lock what is open, unless somebody has it. Raises OSError where there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _newest(folder: Path) -> float:
    """When something was last written in a folder or below it."""
    return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))


def _lock(cache: Path, key: str) -> Path:
    return cache / f".{key}.lock"
