"""kill -9 at every call of a save: the old checkpoint or the new one is there, whole, and nobody repairs anything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("save_points.py")
# Fewer points than these would say that calls are no longer seen.
LEAST = {
    "first": 25,
    "second": 25,
    "removing the third": 30,
    "the same step": 30,
    "the same step, alone": 30,
    "making room": 6,
    "going back": 6,
    "a file": 6,
    "a token store": 30,
}


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Points that were met, by scenario; the script ends with a traceback at the first that left something wrong."""
    command = [sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("points")), "0"]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    tally: dict[str, int] = json.loads(ended.stdout)
    return tally


@pytest.mark.parametrize("scenario", LEAST)
def test_a_kill_at_any_call_leaves_a_whole_checkpoint(points: dict[str, int], scenario: str) -> None:
    """Loaded to the bit as the old or the new one, without a warning; nothing half-written stays behind the load; the
    next save and load work."""
    assert points[scenario] >= LEAST[scenario]


def test_no_scenario_is_left_out(points: dict[str, int]) -> None:
    """Each is counted, and they are several hundred points together."""
    assert points.keys() == LEAST.keys()
    assert sum(points.values()) >= 200
