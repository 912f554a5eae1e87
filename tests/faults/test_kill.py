"""kill -9 at any moment: the same command goes on, and ends to the bit where an undisturbed run ends."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.core.clock import LOST
from gpuday.core.journal import Start, Step, Validation, read, surviving
from gpuday.core.rundir import RunDir, read_json
from gpuday.train.checkpoint import load_newest

ROOT = Path(__file__).resolve().parents[2]
STEPS = 80
SAVES = (2, 0, 1, 2, 1)  # checkpoints that each of five attempts makes before it is killed


def start(place: Path, name: str) -> subprocess.Popen[bytes]:
    """`gpuday train` in a process group of its own."""
    command = [sys.executable, "-m", "gpuday", "train", "tiny.toml", "--out", f"runs/{name}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "GPUDAY_CACHE": str(place / "cache")}
    return subprocess.Popen(
        command,
        cwd=place,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, err = process.communicate(timeout=120)
    return process.returncode, err.decode()


def kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def written(path: Path, kind: bytes) -> int:
    """Rows of a kind in a journal."""
    return path.read_bytes().count(b'"kind": "%s"' % kind) if path.exists() else 0


def kill_while_training(place: Path, run: RunDir, saves: int, seconds: float) -> bool:
    """Kill a process some seconds after it began and made so many checkpoints; False if it was done before.

    Checkpoints and not seconds say when: a machine that is slow now and fast later would let the kills miss.
    """
    wanted = {b"start": written(run.journal, b"start") + 1, b"checkpoint": written(run.journal, b"checkpoint") + saves}
    process, deadline = start(place, run.root.name), time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if all(written(run.journal, kind) >= count for kind, count in wanted.items()):
            break
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    done = process.poll() == 0
    kill(process)
    return not done


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_toml: Callable[..., str]) -> tuple[RunDir, RunDir, int]:
    """An undisturbed run, one that was killed again and again, and how often."""
    place = tmp_path_factory.mktemp("kill")
    saving = "save_every_seconds = 0.1\nvalidate_every = 0.02"
    (place / "tiny.toml").write_text(tiny_toml(budget=f"{STEPS}steps", rows=32, train=saving))
    whole, killed = RunDir(place / "runs" / "whole"), RunDir(place / "runs" / "killed")
    began = time.monotonic()
    code, err = finish(start(place, "whole"))
    assert code == 0, err
    draw = random.Random(2212_14034)
    kills = sum(kill_while_training(place, killed, saves, draw.uniform(0.0, 0.05)) for saves in SAVES)
    code, err = finish(start(place, "killed"))
    assert code == 0, err
    assert time.monotonic() - began < 300
    return whole, killed, kills


def newest(run: RunDir) -> Any:
    saved = load_newest(run.checkpoints, warn=pytest.fail)
    assert saved is not None
    return saved


def test_the_run_was_killed_in_the_middle(runs: tuple[RunDir, RunDir, int]) -> None:
    """Else this file would promise nothing: kills met the training, and work was done again."""
    _, killed, kills = runs
    starts = [row for _, row in read(killed.journal) if isinstance(row, Start)]
    assert kills >= 3
    assert len(starts) > 3
    assert any(0 < row.step < STEPS for row in starts)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_weights_and_optimizer_are_those_of_the_undisturbed_run(runs: tuple[RunDir, RunDir, int], name: str) -> None:
    """Byte for byte."""
    whole, killed, _ = runs
    assert newest(killed).folder.name == newest(whole).folder.name == f"step-{STEPS:08d}"
    assert (newest(killed).folder / name).read_bytes() == (newest(whole).folder / name).read_bytes()


def test_the_held_out_loss_is_that_of_the_undisturbed_run(runs: tuple[RunDir, RunDir, int]) -> None:
    """Before and after, to the last digit, overall and by source."""
    whole, killed, _ = runs
    for key in ("before", "final"):
        a, b = (newest(run).state["progress"][key] for run in (whole, killed))
        assert a == b
    assert read_json(killed.summary)["heldout"]["by_source"] == read_json(whole.summary)["heldout"]["by_source"]


def test_the_surviving_trajectory_has_no_gap_and_no_overlap(runs: tuple[RunDir, RunDir, int]) -> None:
    """Each row of the stream once, each step once, with the losses of the undisturbed run."""
    whole, killed, _ = runs
    steps = [row for row in surviving(killed.journal) if isinstance(row, Step)]
    assert [row.step for row in steps] == list(range(1, STEPS + 1))
    assert steps[0].first_row == 0
    assert [row.first_row for row in steps[1:]] == [row.first_row + row.rows for row in steps[:-1]]
    undisturbed = [row for _, row in read(whole.journal) if isinstance(row, Step)]
    assert [(r.loss, r.gradient_norm, r.masked) for r in steps] == [
        (r.loss, r.gradient_norm, r.masked) for r in undisturbed
    ]
    assert len([row for row in surviving(killed.journal) if isinstance(row, Validation) and row.final]) == 1


def test_what_the_kills_cost_is_on_the_clock(runs: tuple[RunDir, RunDir, int]) -> None:
    """Lost time is a row of the ledger, steps that were made twice are counted, resumes are told."""
    whole, killed, _ = runs
    a, b = read_json(whole.summary), read_json(killed.summary)
    assert b["clock"]["used_seconds"] > a["clock"]["used_seconds"]
    assert sum(b["clock"]["ledger"].values()) == pytest.approx(b["clock"]["used_seconds"])
    assert b["resumes"] == len([r for _, r in read(killed.journal) if isinstance(r, Start)]) - 1
    made = sum(row.rows for _, row in read(killed.journal) if isinstance(row, Step)) * 32
    assert b["train"]["tokens_processed"] == made >= b["train"]["tokens"] == a["train"]["tokens"]
    assert LOST not in a["clock"]["ledger"]


def test_nothing_of_the_kills_is_left_behind(runs: tuple[RunDir, RunDir, int]) -> None:
    """Two checkpoints; no half-written folder, and none that had to be set aside."""
    _, killed, _ = runs
    folders = [p.name for p in killed.checkpoints.iterdir() if p.is_dir()]
    assert len(folders) == 2
    assert all(name.startswith("step-") and "." not in name for name in folders)
