"""What a run writes and where; every file appears whole or not at all."""

import contextlib
import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuday.core.errors import DataError, UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file's content in one step: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
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
    """The JSON value in a file. Raises DataError naming the file when it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", fix="check the path, or run the step that writes it") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", fix="check that it is a file you may read") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}", fix="restore the file or remove its folder") from error


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
        """Hold the run directory; a second process on it is refused. The kernel frees the lock of a dead owner."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = open(self.root / ".lock", "a+")  # noqa: SIM115 - closed by the with below
        except OSError as error:
            raise UsageError(
                f"{self.root} cannot be the run's folder: {error.strerror}",
                where="--out",
                fix="name a folder that is there to write in, or one that can be made",
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                owner = file.read().strip() or "an unknown process"
                raise UsageError(
                    f"{self.root} is in use by {owner}", fix="wait for it, or give another folder with --out"
                ) from error
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            yield
