"""Commands: what help shows is what is called, and nothing heavy is loaded before."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuday.cli import COMMANDS, commands, compare, doctor, evaluate, predict, replay, rooms, run

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "doctor": doctor,
    "evaluate": evaluate,
    "predict": predict,
    "replay": replay,
    "compare": compare,
    "run": run,
    "prepare": run,
    "train": run,
}


def function_of(name: str) -> object:
    return getattr(commands, "list_" if name == "list" else name)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_what_its_room_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same arguments with the same defaults, all of which are handed on."""
    room, word = ROOMS.get(name, rooms), f"{name}_command"
    ours, theirs = inspect.signature(function_of(name)), inspect.signature(getattr(room, word))
    assert [(p.name, p.kind, p.default, p.annotation) for p in ours.parameters.values()] == [
        (p.name, p.kind, p.default, p.annotation) for p in theirs.parameters.values()
    ]
    given = {p.name: object() for p in ours.parameters.values()}
    got = []
    monkeypatch.setattr(room, word, lambda *a, **k: got.append(theirs.bind(*a, **k).arguments))
    function_of(name)(**given)
    assert got == [given]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_the_list_of_commands_says(name: str) -> None:
    """Its help begins as its line in `gpuday --help`, which names all of them."""
    first = (inspect.getdoc(function_of(name)) or "").splitlines()[0]
    assert first.split()[0] == COMMANDS[name].split()[0]


def test_a_slip_is_answered_without_torch() -> None:
    """The help of every command, misspelt commands and flags, flags of other tools, and words in a wrong place."""
    code = (
        "import sys, contextlib; from gpuday.cli import COMMANDS, main\n"
        "slips = [['rnu'], ['modern'], ['run', '--budgte', '1m'], ['run', '--lr', '1'], ['doctor', '--seed', '1'],"
        " ['run', 'modern', '10m'], ['run', 'modern', 'nano'], ['show', '--vocab', '8k'], ['evaluate']]\n"
        "for a in [[name, '--help'] for name in COMMANDS] + slips:\n"
        "    with contextlib.suppress(SystemExit): main(a)\n"
        "sys.exit(bool({'torch', 'transformers', 'numpy', 'psutil', 'plotly'} & sys.modules.keys()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == 9
