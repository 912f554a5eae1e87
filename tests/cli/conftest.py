"""Calls the command line in this process, in a folder of its own, with a tiny preset at hand."""

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpuday.cli import main
from quick import disk_not_awaited, kernels_tried_once

__all__ = ["disk_not_awaited", "kernels_tried_once"]


@dataclass(frozen=True)
class Called:
    """What a command left behind."""

    code: object
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of standard output, each of which must be JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    def kinds(self) -> list[str]:
        return [e["event"] for e in self.events if "event" in e]


Call = Callable[..., Called]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data is made once for all of these tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def call(
    tmp_path: Path,
    shared_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_toml: Callable[..., str],
) -> Iterator[Call]:
    """`call("run", "tiny.toml")`: the exit code and what was printed; no traceback, whatever happened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPUDAY_CACHE", str(shared_cache))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "tiny.toml").write_text(tiny_toml(budget="3steps", batch='ramp = "constant"'))
    handler = signal.getsignal(signal.SIGTERM)

    def go(*arguments: str) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Called(ended.value.code, out, err)

    yield go
    signal.signal(signal.SIGTERM, handler)
