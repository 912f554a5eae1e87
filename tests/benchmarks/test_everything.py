"""The runner: every part is a script that is there, and a part that fails does not stop the others."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import everything
import pytest


def test_every_part_is_a_script_with_a_docstring() -> None:
    """A part that was renamed must not vanish from `make bench`."""
    missing = [name for name in everything.ORDER if not (everything.HERE / f"{name}.py").is_file()]
    assert [] == missing


def test_the_others_run_when_one_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The exit code says that something failed, after all of it has run, with the flags passed on."""
    ran: list[list[str]] = []

    def run(command: list[str], **options: object) -> SimpleNamespace:
        ran.append([Path(command[1]).stem, *command[2:]])
        return SimpleNamespace(returncode=1 if command[1].endswith("speed.py") else 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["everything.py", "--quick", "--only", "speed,memory", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        everything.main()
    assert 1 == ended.value.code
    assert [[name, "--out", str(tmp_path), "--quick"] for name in ("speed", "memory")] == ran
