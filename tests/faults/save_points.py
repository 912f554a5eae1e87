"""Kills at every call by which a save changes the disk.

One process that has torch imported forks a child for each call: it dies right before it, or, for a write, when half of the
bytes are written. The parent then looks at what is left. `python save_points.py FOLDER SEED` prints the tally as JSON.
"""

import builtins
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpuday.core.rundir import clear_unfinished, write_atomic
from gpuday.data.tokenfile import TokenStore, TokenWriter
from gpuday.train import checkpoint

CALLS = ("mkdir", "replace", "rename", "unlink", "rmdir", "fsync")  # of os; and opening a file to write, and writing


@dataclass(frozen=True)
class Scenario:
    """`before` makes a folder as it is when `act` begins; `look` raises AssertionError at what a kill must not leave."""

    before: Callable[[Path], None]
    act: Callable[[Path], None]
    look: Callable[[Path], None]


class Counting:
    """Counts the points of an act. At the one that is `fatal` the process dies as by kill -9."""

    def __init__(self, fatal: int) -> None:
        self.points, self._fatal = 0, fatal

    def point(self) -> None:
        self.points += 1
        if self.points == self._fatal:
            os._exit(137)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Inside the block every call that changes the disk is counted."""
        before = {name: getattr(os, name) for name in CALLS}
        opens = builtins.open

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any, **options: Any) -> Any:
                self.point()
                return real(*given, **options)

            return call

        def opened(path: Any, mode: str = "r", *given: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+"):
                return opens(path, mode, *given, **options)
            self.point()
            return Written(opens(path, mode, **{**options, "buffering": 0}), self)

        for name, real in before.items():
            setattr(os, name, counted(real))
        builtins.open = opened  # type: ignore[assignment]
        try:
            yield
        finally:
            builtins.open = opens
            for name, real in before.items():
                setattr(os, name, real)


class Written:
    """A file without a buffer, whose every write is two points: before it, and when half of it is made."""

    def __init__(self, file: Any, counting: Counting) -> None:
        self._file, self._counting = file, counting

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "Written":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: Any) -> int:
        data = bytes(data)
        self._counting.point()
        half = self._file.write(data[: len(data) // 2])
        self._counting.point()
        return half + int(self._file.write(data[half:]))


def kills(place: Path, seed: int) -> dict[str, int]:
    """Points of every scenario; each was met by a kill, and what was left looked at. Raises AssertionError."""
    return {name: _kill_everywhere(place / name, scenario) for name, scenario in scenarios(seed).items()}


def _kill_everywhere(place: Path, scenario: Scenario) -> int:
    (place / "start").mkdir(parents=True)
    scenario.before(place / "start")
    shutil.copytree(place / "start", place / "counted")
    counting = Counting(0)
    with counting.installed():
        scenario.act(place / "counted")
    for fatal in range(1, counting.points + 1):
        folder = place / str(fatal)
        shutil.copytree(place / "start", folder)
        child = os.fork()
        if not child:
            with Counting(fatal).installed():
                scenario.act(folder)
            os._exit(1)  # it was to die
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137, f"{folder} was not met"
        try:
            scenario.look(folder)
        except AssertionError as error:
            raise AssertionError(f"{folder}: {error}") from error
        shutil.rmtree(folder)
    return counting.points


def scenarios(seed: int) -> dict[str, Scenario]:
    """Saves that are first, second, that remove the third, that are of the same step; and the other writers of a run."""

    def save(root: Path, step: int, version: int = 0) -> None:
        draw = torch.Generator().manual_seed(1000 * seed + 10 * step + version)
        tensors = {name: torch.randn(rows, 5, generator=draw) for name, rows in (("a", 7), ("b", 1 + step % 3))}
        state = {"progress": {"step": step}, "clock": {"ledger": {"step": float(step)}}, "version": version}
        checkpoint.save(root, step, model=tensors, optimizer={"m": tensors["a"] * 2}, state=state)

    def content(root: Path, step: int, version: int = 0) -> dict[str, bytes]:
        """What the save writes, by file."""
        apart = root.parent / f".{root.name}-apart"
        save(apart, step, version)
        files = {p.name: p.read_bytes() for p in next(apart.glob("step-*")).iterdir()}
        shutil.rmtree(apart)
        return files

    def saved(*steps: int) -> Callable[[Path], None]:
        return lambda root: [save(root, step) for step in steps] and None

    def look(*allowed: tuple[int, int], none: bool = False) -> Callable[[Path], None]:
        def check(root: Path) -> None:
            warnings: list[str] = []
            found = checkpoint.load_newest(root, warn=warnings.append)
            assert warnings == [], warnings
            left = [p.name for p in root.iterdir() if not p.name.startswith("step-") and p.name != "LATEST"]
            assert left == [], f"{left} stayed behind"
            if found is None:
                assert none, "no checkpoint was found"
            else:
                files = {p.name: p.read_bytes() for p in found.folder.iterdir()}
                assert any(files == content(root, *which) for which in allowed), f"{found.folder.name} is another"
            save(root, 9)
            again = checkpoint.load_newest(root, warn=warnings.append)
            assert again is not None and again.state["progress"]["step"] == 9 and warnings == []
            assert len(list(root.iterdir())) <= checkpoint.KEEP + 1

        return check

    return {
        "first": Scenario(saved(), lambda root: save(root, 1), look((1, 0), none=True)),
        "second": Scenario(saved(1), lambda root: save(root, 2), look((1, 0), (2, 0))),
        "removing the third": Scenario(saved(1, 2), lambda root: save(root, 3), look((2, 0), (3, 0))),
        "the same step": Scenario(saved(1, 2), lambda root: save(root, 2, 1), look((2, 0), (2, 1))),
        "the same step, alone": Scenario(saved(2), lambda root: save(root, 2, 1), look((2, 0), (2, 1))),
        "making room": Scenario(saved(1, 2), lambda root: checkpoint.make_room(root) and None, look((2, 0))),
        "going back": Scenario(saved(1, 2), lambda root: checkpoint.drop_after(root, 1), look((1, 0), (2, 0))),
        "a file": Scenario(_write(b"old"), _write(b"new" * 50), _look_at_file),
        "a token store": Scenario(lambda root: None, _write_store, _look_at_store),
    }


def _write(data: bytes) -> Callable[[Path], None]:
    return lambda root: write_atomic(root / "file", data)


def _look_at_file(root: Path) -> None:
    assert (root / "file").read_bytes() in (b"old", b"new" * 50)
    clear_unfinished(root)
    assert [p.name for p in root.iterdir()] == ["file"]
    write_atomic(root / "file", b"newer")
    assert (root / "file").read_bytes() == b"newer"


def _write_store(root: Path) -> None:
    with TokenWriter(root / "train.tok", length=4, vocab_size=100, vocabulary="v") as writer:
        for source in ("wiki", "books"):
            writer.append(np.arange(12).reshape(3, 4))
            writer.end_shard(source, np.array([0, 5]))
        writer.finish()


def _look_at_store(root: Path) -> None:
    if (root / "train.tok").exists():
        TokenStore.open(root / "train.tok").verify()
    else:
        _write_store(root)
    clear_unfinished(root)
    assert [p.name for p in root.iterdir()] == ["train.tok"]
    assert len(TokenStore.open(root / "train.tok")) == 6


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(kills(Path(sys.argv[1]), int(sys.argv[2]))) + "\n")
