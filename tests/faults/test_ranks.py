"""Ranks that die: the job ends soon and says who it was, and the run goes on with as many ranks as there are."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from gpuday.core.clock import LOST
from gpuday.core.journal import Start, Step, read, surviving
from gpuday.core.rundir import RunDir, read_json

ROOT = Path(__file__).resolve().parents[2]
GATED = str(ROOT / "tests" / "faults" / "gated.py")
ALONE = [sys.executable, GATED]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", GATED]
STEPS = 30
SECONDS = 60.0  # from the death of a rank to the end of the last process
ROUNDING = 1e-6  # of a loss: two ranks add the same gradients in another order


@dataclass(frozen=True)
class Death:
    """A rank that was killed: which, where rank 0 was then, and how the job ended."""

    rank: int
    place: str
    pid: int
    seconds: float
    code: int
    err: str


def start(place: Path, command: list[str], *more: str, gate: str = "") -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "GPUDAY_CACHE": str(place / "cache")}
    with open(place / "err", "wb") as err:
        return subprocess.Popen(
            [*command, *more],
            cwd=place,
            env={**environment, "OMP_NUM_THREADS": "1", "GATE": gate, "GATE_FILE": str(place / "gate")},
            stdout=subprocess.DEVNULL,
            stderr=err,
        )


def await_gate(place: Path, process: subprocess.Popen[bytes]) -> int:
    """The process id of rank 0, once it stands at the gate."""
    gate, deadline = place / "gate", time.monotonic() + 100
    while not gate.exists():
        assert process.poll() is None, (place / "err").read_text()
        assert time.monotonic() < deadline, "rank 0 never came to the gate"
        time.sleep(0.01)
    return int(gate.read_text())


def kill_at(place: Path, gate: str, rank: int, command: list[str], *more: str) -> Death:
    """Kill one of two ranks while rank 0 is at a place, let rank 0 go on, and wait for the last process of the job."""
    launcher, file = start(place, command, *more, gate=gate), place / "gate"
    job = [psutil.Process(launcher.pid)]
    try:
        leader = await_gate(place, launcher)
        job += job[0].children(recursive=True)
        if rank == 0:
            victim = psutil.Process(leader)
        else:
            (victim,) = (p for p in job[1:] if GATED in p.cmdline() and p.pid != leader)
        began = time.monotonic()
        victim.kill()
        file.unlink()
        code = launcher.wait(timeout=120)
        psutil.wait_procs(job, timeout=SECONDS)
        assert not [p for p in job if p.is_running()]
        return Death(rank, gate, victim.pid, time.monotonic() - began, code, (place / "err").read_text())
    finally:
        file.unlink(missing_ok=True)
        for process in job:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        launcher.wait()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_toml: Callable[..., str]) -> tuple[RunDir, RunDir, list[Death]]:
    """An undisturbed run of one rank, and one that was killed with two, with one, and with two again, the last time in
    its evaluation, and gone on with by one."""
    place = tmp_path_factory.mktemp("ranks")
    growing = 'least_tokens = 128\nramp = { part = "ramp", start = 0.4, until = 0.5 }'
    saving = "save_every_seconds = 0.05"
    (place / "tiny.toml").write_text(tiny_toml(budget=f"{STEPS}steps", rows=11, batch=growing, train=saving))
    undisturbed = start(place, ALONE, "train", "tiny.toml", "--out", "runs/alone")
    assert undisturbed.wait(timeout=120) == 0, (place / "err").read_text()
    same = ("tiny.toml", "--out", "runs/killed", "--tasks", "none")
    deaths = [
        kill_at(place, "prepare", 1, TWO, "run", *same),
        kill_at(place, "save", 1, TWO, "run", *same),
        kill_at(place, "step", 0, TWO, "run", *same),
    ]
    alone = start(place, ALONE, "run", *same, gate="step")
    await_gate(place, alone)
    alone.kill()
    alone.wait()
    (place / "gate").unlink()
    deaths.append(kill_at(place, "evaluate", 0, TWO, "run", *same))
    assert "word_bytes" not in read_json(place / "runs" / "killed" / "summary.json")["heldout"]
    goes_on = start(place, ALONE, "run", *same)
    assert goes_on.wait(timeout=120) == 0, (place / "err").read_text()
    return RunDir(place / "runs" / "alone"), RunDir(place / "runs" / "killed"), deaths


Runs = tuple[RunDir, RunDir, list[Death]]


def steps(run: RunDir) -> list[Step]:
    return [row for row in surviving(run.journal) if isinstance(row, Step)]


def test_every_process_is_gone_soon(runs: Runs) -> None:
    """Whoever died and whatever rank 0 did: launcher and ranks end within a minute, and not as if all were well."""
    assert [(death.place, death.rank) for death in runs[2]] == [
        ("prepare", 1), ("save", 1), ("step", 0), ("evaluate", 0),
    ]  # fmt: skip
    assert all(death.seconds < SECONDS for death in runs[2])
    assert all(death.code != 0 for death in runs[2])


def test_the_launcher_names_the_rank_that_died(runs: Runs) -> None:
    """Its summary begins with the first failure: the rank, and the signal as exit code."""
    for death in runs[2]:
        summary = death.err.partition("Root Cause (first observed failure)")[2]
        assert re.search(rf"rank +: {death.rank} \(local_rank: {death.rank}\)", summary), death.err
        assert re.search(rf"exitcode +: -9 \(pid: {death.pid}\)", summary), death.err


def test_the_survivor_says_who_is_gone_and_how_to_go_on(runs: Runs) -> None:
    """One message, with the rank and its process; no traceback, no internal error. After training nobody is left."""
    for death in runs[2]:
        told = re.findall(rf"error: rank {death.rank} \(process {death.pid} on \S+\) is gone", death.err)
        assert len(told) == (0 if death.place == "evaluate" else 1), death.err
        assert death.err.count("error: ") == len(told)
        assert ("the same command goes on from the last checkpoint, also with fewer ranks" in death.err) == bool(told)
        assert "src/gpuday" not in death.err  # a traceback of ours; the launcher prints its own


def test_the_run_went_on_from_a_checkpoint_each_time(runs: Runs) -> None:
    """Two ranks, two from the save that outlived its rank, one, two again; work was lost and made again."""
    starts = [row for _, row in read(runs[1].journal) if isinstance(row, Start)]
    assert [row.ranks for row in starts] == [2, 2, 1, 2]
    assert starts[0].step == 0
    assert all(row.step > 0 for row in starts[1:])
    assert len([row for _, row in read(runs[1].journal) if isinstance(row, Step)]) >= STEPS


def test_an_evaluation_whose_rank_was_killed_is_made_by_the_same_command(runs: Runs) -> None:
    """By fewer ranks, and to the report; nothing is trained again."""
    summary = read_json(runs[1].summary)
    assert summary["heldout"]["word_bits_per_byte"] > 0
    assert summary["export"]["parity_max_abs"] is not None
    assert runs[1].report.is_file()
    assert summary["attempts"] == 4


def test_rows_and_losses_are_those_of_one_rank_undisturbed(runs: Runs) -> None:
    """Each step and each row once, in the same order, with the same masks; losses within rounding."""
    alone, killed, _ = runs
    assert [row.step for row in steps(killed)] == list(range(1, STEPS + 1))
    for a, b in zip(steps(alone), steps(killed), strict=True):
        assert (a.first_row, a.rows, a.masked, a.tokens, a.flops) == (b.first_row, b.rows, b.masked, b.tokens, b.flops)
    assert [b.loss for b in steps(killed)] == pytest.approx([a.loss for a in steps(alone)], rel=ROUNDING)


def test_what_the_deaths_cost_is_charged(runs: Runs) -> None:
    """The clock only grows over the attempts, and its ledger has the time that was lost."""
    clock = read_json(runs[1].summary)["clock"]
    assert clock["ledger"][LOST] > 0
    assert sum(clock["ledger"].values()) == pytest.approx(clock["used_seconds"])
    used = [row.used_seconds for _, row in read(runs[1].journal) if isinstance(row, Start)]
    assert used == sorted(used) and used[0] < used[-1] < clock["used_seconds"]
