"""The soak: its parts are there, its batches are told, a failure ends it with 1, and what is done is not made again."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loading import load

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "soak.py"
PARTS = """
import os

def count(seed, cases, folder):
    (folder / "made").write_text("")
    return {"count": cases, "kinds": {"even": 1 - seed % 2, "odd": seed % 2}, "failures": []}

def fail(seed, cases, folder):
    return {"count": cases, "failures": [f"seed {seed}: it is wrong"] if seed == 4 else []}

def crash(seed, cases, folder):
    os._exit(11)
"""


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "soak", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def soak(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool with three small parts beside its own."""
    (tmp_path / "parts_of_this_test.py").write_text(PARTS)
    monkeypatch.setattr(tool, "FAULTS", tmp_path)
    for name in ("count", "fail", "crash"):
        part = tool.Part("parts_of_this_test", name, cases=6, batch=2, quick={}, quick_cases=1)
        monkeypatch.setitem(tool.PARTS, name, part)
    return tool


def call(soak: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["soak.py", *arguments, "--out", str(out), "--workers", "2"])
    return soak.main()


def test_every_part_is_a_function_that_is_there(tool: ModuleType) -> None:
    """A function that was renamed must not vanish from the soak."""
    for name, part in tool.PARTS.items():
        assert f"def {part.function}(seed: int, count: int" in (tool.FAULTS / f"{part.module}.py").read_text(), name


def test_batches_are_told_and_summed(
    soak: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line each, with seeds that follow each other; counts by name add up; nothing of a good batch stays."""
    assert call(soak, monkeypatch, tmp_path / "out", "--only", "count", "--count", "5", "--seed", "3") == 0
    *lines, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert sorted((line["seed"], line["count"]) for line in lines) == [(3, 2), (4, 2), (5, 1)]
    row = last["summary"]["count"]
    assert (row["count"], row["batches"], row["failures"], row["kinds"]) == (5, 3, 0, {"even": 1, "odd": 2})
    assert last.keys() == {"summary", "seconds", "workers", "machine", "revision"}
    assert list((tmp_path / "out" / "count").iterdir()) == []


def test_what_is_done_is_not_made_again(
    soak: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without time nothing is begun, with 75; then all is made; then nothing is, and the sums are the same."""
    out, command = tmp_path / "out", ("--only", "count")
    assert call(soak, monkeypatch, out, *command, "--seconds", "-1") == 75
    assert call(soak, monkeypatch, out, *command) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    monkeypatch.setattr(soak, "start", None)
    assert call(soak, monkeypatch, out, *command) == 0
    assert json.loads(capsys.readouterr().out)["summary"] == first["summary"]


@pytest.mark.parametrize(("part", "told"), [("fail", "seed 4: it is wrong"), ("crash", "seed 4: ended with 11")])
def test_a_failure_ends_with_1_and_is_made_again(
    soak: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    part: str,
    told: str,
) -> None:
    """Its seed is told, its folder stays, the batches after it are made, and the same command tries it anew."""
    for _ in range(2):
        assert call(soak, monkeypatch, tmp_path / "out", "--only", part, "--seed", "3") == 1
        *lines, last = map(json.loads, capsys.readouterr().out.splitlines())
        assert any(told in failure for line in lines for failure in line["failures"])
        assert last["summary"][part]["batches"] == 3
    assert "batch-4-2" in [p.name for p in (tmp_path / "out" / part).iterdir()]


def test_the_quick_kills_of_the_command_line(tmp_path: Path) -> None:
    """`python tools/soak.py --only kills --quick`: one kill at a random moment, and the run ends to the bit as one undisturbed."""
    command = [sys.executable, str(SCRIPT), "--only", "kills", "--quick", "--seed", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    line, last = map(json.loads, done.stdout.splitlines())
    assert line["failures"] == []
    assert sum(line["rooms"].values()) == line["count"] == last["summary"]["kills"]["count"] == 1


def test_an_undisturbed_run_of_other_code_is_not_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made once for a source; made anew, with a word of it, when a file of the source has changed by a byte."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "faults"))
    campaigns = load(ROOT / "tests" / "faults" / "campaigns.py")
    made: list[Path] = []

    class Undisturbed:
        def __init__(self, place: Any) -> None:
            made.append(place.folder)

        def finish(self) -> float:
            return float(len(made))

    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "code.py").write_text("a = 1\n")
    monkeypatch.setattr(campaigns, "SOURCE", tmp_path / "source")
    monkeypatch.setattr(campaigns, "Campaign", Undisturbed)
    first = campaigns.undisturbed(tmp_path / "out", "train", "off", 8)
    assert first[1:] == (1.0, "")
    assert campaigns.undisturbed(tmp_path / "out", "train", "off", 8) == first
    (tmp_path / "source" / "code.py").write_text("a = 2\n")
    place, seconds, note = campaigns.undisturbed(tmp_path / "out", "train", "off", 8)
    assert (place.folder, seconds) == (made[1], 2.0)
    assert made[0] != made[1] and made[0].is_dir()
    assert "made anew" in note and campaigns.source_revision() in note
