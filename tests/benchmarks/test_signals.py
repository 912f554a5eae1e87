"""A stand-in for a run, interrupted in its phases: what is measured of its end, and when a phase counts as missed."""

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import signals
from signals import PHASES, QUICK
from watched import Phase

STAND_IN = """
import json, os, shlex, signal, subprocess, sys, time
def leave(number, frame):
    print("error: stopped; give it again:", shlex.join(["gpuday", *sys.argv[1:]]), file=sys.stderr, flush=True)
    os._exit(75)
signal.signal(signal.SIGTERM, leave)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) if "leaves" in sys.argv else None
for event in ("run", "fit", "step"):
    print("text of a library", flush=True)
    print(json.dumps({"event": event, "step": 3}), flush=True)
    time.sleep(60 if event == sys.argv[1] else 0)
"""


def ended(phase: Phase, folder: Path, *words: str) -> dict[str, Any]:
    """The stand-in as the command of a run, which stands still at the event that is its first word."""
    script = folder / "stand_in.py"
    script.write_text(STAND_IN)
    return signals.ended([sys.executable, "-u", str(script), *words], phase, signal.SIGTERM, folder, folder / "run")


def test_a_run_that_is_met_is_measured(tmp_path: Path) -> None:
    """Exit code, journalled and saved step, the command in the message, no traceback, nothing left over."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    rows = [{"kind": "start", "step": 0}, {"kind": "step", "step": 1}, {"kind": "step", "step": 2}]
    (tmp_path / "run" / "journal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run" / "checkpoints" / "LATEST").write_text('{"content": {"folder": "step-00000002"}}')
    figures = ended(Phase("fitting", "long", "fit", "step"), tmp_path, "fit", "a b")
    assert 0 < figures.pop("seconds") < signals.HUNG
    assert figures == {
        "code": 75,
        "last_step": 2,
        "saved_step": 2,
        "holds_command": True,
        "traceback": False,
        "left": 0,
    }


def test_a_process_that_is_left_over_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child that outlives its parent by two seconds; there is no journal and no checkpoint."""
    lived: list[int] = []
    real = signals.left_over

    def left_over(leader: int, children: list[Any]) -> int:
        count = real(leader, children)
        for child in children:
            lived.append(child.pid)
            child.kill()
        return count

    monkeypatch.setattr(signals, "left_over", left_over)
    figures = ended(Phase("fitting", "long", "fit", "step"), tmp_path, "fit", "leaves")
    assert (1, 1, None, None) == (figures["left"], len(lived), figures["last_step"], figures["saved_step"])


def test_a_phase_that_was_over_is_missed(tmp_path: Path) -> None:
    """The event that ends it came before the signal: no seconds, and the process is killed, not asked."""
    phase = Phase("over", "long", "fit", "step", delay=1.0)
    assert {"missed": True, "code": None, "last_event": "step"} == ended(phase, tmp_path, "step")


@pytest.mark.parametrize(
    "phase",
    [
        Phase("never", "long", "validation", "trained"),
        Phase("nothing appears", "long", "step", "trained", appears="{run}/checkpoints/.tmp-*"),
    ],
    ids=lambda phase: phase.name,
)
def test_a_phase_that_does_not_come_is_missed(phase: Phase, tmp_path: Path) -> None:
    """The process ended by itself before the event, or before the file: its code is kept, and there are no seconds."""
    assert {"missed": True, "code": 0, "last_event": "step"} == ended(phase, tmp_path, "none")


def test_a_command_without_a_phase_goes_on_to_its_end(tmp_path: Path) -> None:
    """Its own exit code, no signal sent."""
    assert {"code": 0} == ended(Phase("to the end", "short"), tmp_path, "none")


def test_what_is_interrupted_comes_in_the_order_of_a_run() -> None:
    """No phase of the run of long steps comes behind one of the short: what they share is prepared once; quick ones exist."""
    runs = [phase.run for phase in PHASES]
    assert sorted(runs) == runs
    assert set(QUICK) < {phase.name for phase in PHASES}
    assert set(runs) == set(signals.RUNS)


def test_every_command_of_a_phase_is_one_that_is_gone_on_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same words for every phase of a run but for its tasks; another folder for another signal."""
    given: dict[str, set[str]] = {}

    def ended(command: list[str], phase: Phase, number: signal.Signals, *_: Path) -> dict[str, Any]:
        words = shlex.join(command).replace("--tasks pydocs", "--tasks none")
        given.setdefault(f"{number.name} {phase.run}", set()).add(words)
        return {}

    monkeypatch.setattr(signals, "ended", ended)
    for number in (signal.SIGTERM, signal.SIGINT):
        for phase in PHASES:
            signals.interrupted("nano", phase, number, tmp_path)
    assert [1] * 4 == [len(commands) for commands in given.values()]
    assert 4 == len(set().union(*given.values()))
