"""A disk that refuses what is written below some folders, with the error of one that is full, read-only or broken."""

import builtins
import io
import os
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """Refuses to write, make, rename and sync below the folders that `fails` names, until it `recovers`. A write that is
    refused has written a part, as on a disk that runs full. Removing works."""

    def __init__(self) -> None:
        self.refused = 0
        self._number, self._below = 0, ()

    def fails(self, number: int, *below: Path) -> None:
        self._number, self._below = number, tuple(map(os.fspath, below))

    def recovers(self) -> None:
        self._below = ()

    def check(self, path: Any) -> None:
        """Raise OSError if nothing can be written at this path now."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        if any(os.fspath(path).startswith(folder) for folder in self._below):
            self.refused += 1
            raise OSError(self._number, os.strerror(self._number), os.fspath(path))

    def installed(self, monkeypatch: pytest.MonkeyPatch) -> "Disk":
        """Under everything that this process writes."""
        for name in ("mkdir", "fsync"):
            monkeypatch.setattr(os, name, self._checked(getattr(os, name)))
        opens = builtins.open

        def opened(path: Any, mode: str = "r", *given: Any, **options: Any) -> Any:
            file = opens(path, mode, *given, **options)
            return Refusing(file, self, path) if set(mode) & set("wax+") and not isinstance(path, int) else file

        monkeypatch.setattr(builtins, "open", opened)
        return self

    def _checked(self, real: Any) -> Any:
        def call(path: Any, *given: Any, **options: Any) -> Any:
            self.check(path)
            return real(path, *given, **options)

        return call


class Refusing:
    """A file of that disk."""

    def __init__(self, file: Any, disk: Disk, path: Any) -> None:
        self._file, self._disk, self._path = file, disk, path
        self._partly = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "Refusing":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: Any) -> int:
        try:
            self._disk.check(self._path)
        except OSError:
            if self._partly or not isinstance(self._file, io.RawIOBase):
                raise
            self._partly = True
            return int(self._file.write(bytes(data)[: len(data) // 2]))  # the rest, and what follows, is refused
        self._partly = False
        return int(self._file.write(data))
