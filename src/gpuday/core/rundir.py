"""What a run writes and where; every file appears whole or not at all."""

import contextlib
import fcntl
import json
import os
import pwd
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gpuday.core.errors import DataError, EnvironmentFault, FitError, UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_JSON = 256 << 20  # bytes
SHARED_AGE = 86_400.0  # seconds: no write takes a day
LOOKING = 0.5  # seconds that a lock is asked for before it counts as held
OWNER_CHARACTERS = 300  # of a lock's file that are shown, whatever is in it
_UNFINISHED = re.compile(r"\..+\.(\d+)\.tmp")  # named by the process that writes it


def check_name(name: str) -> str:
    """A run's or milestone's name, refused unless it is a plain file name."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a run", fix="use letters, digits, '.', '_' and '-', at most 100")
    return name


def fsync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def no_link(path: str, flags: int) -> int:
    """An `opener` that does not follow a symbolic link: a folder that came from elsewhere may hold one that leads out."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file's content in one step: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=no_link) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_folder(path.parent)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """`write_atomic` of indented JSON; NaN and infinity are refused, since JSON has neither."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode(), durable=durable)


def read_json(path: Path) -> Any:
    """The JSON value in a file. Raises DataError naming the file when it is missing or damaged, or no file at all."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise DataError(f"{path} is no file but a pipe or a device", fix="remove it: nothing of ours is one")
        if found.st_size > MAX_JSON:
            raise DataError(f"{path} has {found.st_size:,} bytes", fix="restore the file: none of ours is that large")
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", fix="check the path, or run the step that writes it") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", fix="check that it is a file you may read") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}", fix="restore the file or remove its folder") from error


def clear_unfinished(folder: Path, *, shared: bool = False) -> None:
    """Remove what killed processes left half-written below a folder: `.<name>.<process>.tmp` of none that runs here.

    For a process that writes nothing there yet: its own number may have been another's before the machine started anew.
    In a folder that machines share only what is a day old: the number of a process says nothing on another one.
    """
    for path in sorted(folder.rglob(".*.tmp")):
        match = _UNFINISHED.fullmatch(path.name)
        if match is None or (int(match[1]) != os.getpid() and _is_running(int(match[1]))):
            continue
        with contextlib.suppress(OSError):  # gone by now, or another user's: what is left over stops nobody
            if not shared or path.stat().st_mtime < time.time() - SHARED_AGE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def set_aside(path: Path, reason: str) -> Path:
    """Rename a damaged file or folder to `<name>.bad-<reason>`, numbered where that is taken; returns the new path."""
    name = f"{path.name}.bad-{reason}"
    aside = next(p for n in range(1000) if not (p := path.with_name(name + (f"-{n}" if n else ""))).exists())
    os.replace(path, aside)
    return aside


def require_space(folder: Path, needed: int, what: str, *, fix: str) -> None:
    """Raise FitError when fewer than `needed` bytes are free where `folder`, which is there, lies.

    Neither a quota nor what others will write meanwhile can be known.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FitError(f"{what} takes about {_size(needed)}, and {_size(free)} are free", where=str(folder), fix=fix)


def _size(count: float) -> str:
    return f"{count:,.0f} bytes" if count < 1 << 20 else f"{count / (1 << 20):,.0f} MiB ({count:,.0f} bytes)"


def _take(handle: int) -> bool:
    """Lock what is open under a handle; False when somebody else has it. Raises OSError where there are no locks.

    Whoever lists runs looks by holding the lock for a moment, so that one look of ours is not enough.
    """
    until = time.monotonic() + LOOKING
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        else:
            return True


def _owner() -> str:
    """This process, for whoever is refused."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in a container, users often have no name
        user = f"number {os.geteuid()}"
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} (user {user}, since {since})"


@dataclass(frozen=True)
class RunDir:
    """Paths of one run; see docs/decisions.md for the layout."""

    root: Path

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.json"

    @property
    def environment(self) -> Path:
        return self.root / "environment.json"

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def fit(self) -> Path:
        return self.root / "fit.json"

    @property
    def heartbeat(self) -> Path:
        return self.root / "heartbeat.json"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def scores(self) -> Path:
        return self.root / "scores"

    def update_summary(self, **sections: Any) -> dict[str, Any]:
        """Write sections into summary.json, keeping the others; returns the whole."""
        whole: dict[str, Any] = read_json(self.summary) if self.summary.exists() else {}
        whole.update(sections)
        write_json(self.summary, whole)
        return whole

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run directory; another process, or thread, on it is refused and told who holds it since when.

        The kernel frees the lock of a dead owner; what the file says is for people, and blocks nobody. The folder is
        locked beside the file, so that a file that somebody removed lets no second one in. Raises UsageError, and
        EnvironmentFault where the file system has no locks.
        """
        with contextlib.ExitStack() as stack:
            made = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
            try:
                self.root.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(
                    open(self.root / ".lock", "a+", encoding="utf-8", errors="replace", opener=no_link)
                )
            except OSError as error:
                raise UsageError(
                    f"{self.root} cannot be the run's folder: {error.strerror}",
                    where="--out",
                    fix="name a folder that is there to write in, or one that can be made",
                ) from error
            folder = os.open(self.root, os.O_RDONLY)
            stack.callback(os.close, folder)
            try:
                held = _take(file.fileno())
            except OSError as error:
                raise EnvironmentFault(
                    f"{self.root} lies on a file system without locks: {error.strerror}",
                    where="two processes could train there at once",
                    fix="mount it with locks, or give a folder on another disk with --out",
                ) from error
            with contextlib.suppress(OSError):  # file systems of a network lock files only
                held = held and _take(folder)
            # A folder that its owner removed while this process waited for it is no longer the one of that name.
            held = held and self.root.exists() and os.path.samestat(os.fstat(folder), os.stat(self.root))
            if not held:
                file.seek(0)
                owner = file.readline(OWNER_CHARACTERS).strip() or "an unknown process"
                raise UsageError(
                    f"{self.root} is in use by {owner}", fix="wait until it ends, or use another run's folder"
                )
            file.seek(0)
            file.truncate()
            file.write(_owner() + "\n")
            file.flush()
            clear_unfinished(self.root)
            try:
                yield
            except BaseException:
                _unmake(self.root, made)
                raise


def _unmake(root: Path, made: list[Path]) -> None:
    """Remove folders that were made for a run in which nothing was written: a mistyped command leaves none behind."""
    if root in made and all(path.name == ".lock" for path in root.iterdir()):
        (root / ".lock").unlink(missing_ok=True)
        for folder in made:  # innermost first
            with contextlib.suppress(OSError):  # another run has come into it meanwhile
                folder.rmdir()
