"""A peer in its own process: the turns, and both sides' seconds."""

import os
import sys
from pathlib import Path

import pytest
from beside import beside
from measure import Spread

FOLDER = os.fspath(Path(__file__).resolve().parents[2] / "benchmarks")
CHILD = f"""
import sys
sys.path.insert(0, {FOLDER!r})
from beside import give, pause
from measure import Spread
for step in range(4):
    print("noise of a library")
    pause()
give(Spread.of([2.0, 1.0, 4.0]))
"""


def test_ours_run_in_the_pauses_and_both_answers_come_back() -> None:
    """Four pauses, one to warm up: three rounds of ours each; theirs as the child counted them."""
    called: list[str] = []
    ours = {"a": lambda: called.append("a"), "b": lambda: called.append("b")}
    theirs, own = beside([sys.executable, "-c", CHILD], ours, warm_up=1)
    assert theirs == Spread(2.0, 1.0, 4.0, 3)
    assert called == ["a", "b"] * 4
    assert {name: spread.rounds for name, spread in own.items()} == {"a": 3, "b": 3}


def test_a_peer_that_fails_ends_the_benchmark() -> None:
    """With its exit code and its command, not with a half of a comparison."""
    with pytest.raises(SystemExit, match=r"the peer ended with 3 and without a result"):
        beside([sys.executable, "-c", "import sys; sys.exit(3)"], {}, warm_up=0)
