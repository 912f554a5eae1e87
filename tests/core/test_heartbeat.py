"""The heartbeat: the clock on disk, each second, whatever the main thread does."""

import threading
from pathlib import Path

import pytest

from gpuday.core import rundir
from gpuday.core.clock import Budget, Clock, Heartbeat, read_heartbeat
from gpuday.core.sealed import Broken
from passing_time import Time, running


def test_a_heartbeat_writes_while_the_main_thread_is_busy(tmp_path: Path) -> None:
    """During one long activity, such as compiling, the time on disk moves on."""
    path, beats = tmp_path / "heartbeat.json", threading.Event()
    clock, time = running()

    class Counting(Time):
        def __call__(self) -> float:
            if threading.current_thread() is not threading.main_thread():
                time.passes(1)
                if time.seconds > 1003:
                    beats.set()
            return time.seconds

    clock = Clock(Budget.parse("100s"), now=Counting())
    clock.start()
    with Heartbeat(clock, path, seconds=0.01), clock.activity("compile"):
        assert beats.wait(20)
        used = rundir.read_json(path)["used_seconds"]
    assert used >= 1
    assert rundir.read_json(path)["used_seconds"] == clock.used_seconds()
    assert clock.ledger()["compile"] >= 3


def test_a_heartbeat_that_cannot_write_does_not_stop_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the heartbeat, not the run."""
    tried = threading.Event()

    def full(*_: object) -> None:
        tried.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    clock, _ = running()
    with Heartbeat(clock, tmp_path / "heartbeat.json", seconds=0.01):
        assert tried.wait(20)
    assert not (tmp_path / "heartbeat.json").exists()


def test_a_heartbeat_is_read_only_as_it_was_written(tmp_path: Path) -> None:
    """Every single bit counts: a digit that flipped would charge time that nobody used."""
    path = tmp_path / "heartbeat.json"
    clock, time = running()
    time.passes(12.5)
    with Heartbeat(clock, path, seconds=1000.0):
        pass
    raw = path.read_bytes()
    assert read_heartbeat(path) == (12.5, False)
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(Broken):
            read_heartbeat(path)


@pytest.mark.parametrize("used", ["-1", "NaN", "Infinity", "1e999", '"x"', "null", "[]", "9" * 400])
def test_a_heartbeat_without_a_checksum_is_taken_if_it_makes_sense(tmp_path: Path, used: str) -> None:
    """It is of an earlier version; no time is negative, endless or no number."""
    path = tmp_path / "heartbeat.json"
    path.write_text('{"used_seconds": 3.5, "stopped": true}')
    assert read_heartbeat(path) == (3.5, True)
    path.write_text(f'{{"used_seconds": {used}, "stopped": true}}')
    with pytest.raises(Broken):
        read_heartbeat(path)


def test_a_beat_is_on_disk_at_once(tmp_path: Path) -> None:
    """Before the first second is over."""
    clock, time = running()
    time.passes(3.0)
    with Heartbeat(clock, tmp_path / "heartbeat.json", seconds=3600.0) as heartbeat:
        heartbeat.beat()
        assert read_heartbeat(tmp_path / "heartbeat.json") == (3.0, False)
