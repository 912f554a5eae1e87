"""Several ranks: the run of one device on several, with the same rows, the same losses within rounding, and one clock."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import warm
from gpuday.core.journal import Start, Step, Validation, read, surviving
from gpuday.core.rundir import RunDir, read_json

ROOT = Path(__file__).resolve().parents[2]
GATED = str(ROOT / "tests" / "faults" / "gated.py")
STEPS, STOPPED = 30, 12  # the latter is where the gate stands
# Two ranks add the same fp32 gradients of the same micro-batches in another order: each step's gradient differs in its
# last bits, 6e-8 of its size, and training carries that on. Measured after 30 steps: 1e-7 of the loss, 2e-7 of the norm.
ROUNDING = 1e-6
AVERAGE = '\n[average]\npart = "ema"\nhalf_life = 0.2\n'
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def environment(place: Path) -> dict[str, str]:
    own = {"PYTHONPATH": str(ROOT / "src"), "GPUDAY_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own}


def start(
    place: Path, name: str, *command: str, program: tuple[str, ...] = ("-m", "gpuday"), **more: str
) -> subprocess.Popen[bytes]:
    """A command as two ranks, with `more` in their environment; standard error goes to a file beside the runs."""
    given = [*TORCHRUN, *program, *command, "--out", f"runs/{name}"]
    with open(place / f"{name}.err", "wb") as err:
        return subprocess.Popen(
            given, cwd=place, env={**environment(place), **more}, stdout=subprocess.PIPE, stderr=err
        )


def train_alone(place: Path, name: str) -> RunDir:
    """`gpuday train` as one rank, in a fork in which torch is loaded, to its end."""
    command = [sys.executable, "-m", "gpuday", "train", "tiny.toml", "--out", f"runs/{name}"]
    done = warm.run(command, cwd=place, env=environment(place))
    assert done.returncode == 0, done.stderr
    return RunDir(place / "runs" / name)


def finish(place: Path, name: str, process: subprocess.Popen[bytes]) -> tuple[int, list[str], str]:
    """Exit code, lines of standard output, standard error."""
    try:
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out.decode().splitlines(), (place / f"{name}.err").read_text()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_toml: Callable[..., str]) -> Path:
    """Eleven rows a step in micro-batches of four: three, the last of them padded, for two ranks. The batch grows, and
    what is looked at and kept is an average of the weights, which each rank has of its own."""
    place = tmp_path_factory.mktemp("ranks")
    growing = 'least_tokens = 128\nramp = { part = "ramp", start = 0.4, until = 0.5 }'
    (place / "tiny.toml").write_text(tiny_toml(budget=f"{STEPS}steps", rows=11, batch=growing) + AVERAGE)
    return place


@pytest.fixture(scope="module")
def alone(place: Path) -> RunDir:
    """The run of one rank."""
    return train_alone(place, "alone")


@pytest.fixture(scope="module")
def both(place: Path, alone: RunDir) -> tuple[RunDir, list[str]]:
    """The run of two, and what they printed."""
    code, lines, err = finish(place, "both", start(place, "both", "run", "tiny.toml", "--tasks", "none"))
    assert code == 0, err
    return RunDir(place / "runs" / "both"), lines


def steps(run: RunDir) -> list[Step]:
    return [row for row in surviving(run.journal) if isinstance(row, Step)]


def test_two_ranks_read_the_rows_of_one(alone: RunDir, both: tuple[RunDir, list[str]]) -> None:
    """Each step the same rows, the same masks, the same rate."""
    for a, b in zip(steps(alone), steps(both[0]), strict=True):
        assert (a.first_row, a.rows, a.masked, a.tokens, a.flops) == (b.first_row, b.rows, b.masked, b.tokens, b.flops)
        assert (a.fraction, a.multiplier) == (b.fraction, b.multiplier)


def test_two_ranks_have_the_losses_of_one(alone: RunDir, both: tuple[RunDir, list[str]]) -> None:
    """Loss and gradient norm of each step, and the held-out loss, within rounding."""
    a, b = steps(alone), steps(both[0])
    assert [s.loss for s in b] == pytest.approx([s.loss for s in a], rel=ROUNDING)
    assert [s.gradient_norm for s in b] == pytest.approx([s.gradient_norm for s in a], rel=10 * ROUNDING)
    looks = [
        [row.nats_per_token for _, row in read(run.journal) if isinstance(row, Validation)] for run in (alone, both[0])
    ]
    assert looks[1] == pytest.approx(looks[0], rel=ROUNDING)


def test_the_seconds_of_both_devices_are_told(both: tuple[RunDir, list[str]]) -> None:
    """The budget is one, and the devices are two."""
    summary = read_json(both[0].summary)
    assert summary["train"]["ranks"] == 2
    assert summary["device_seconds"] == pytest.approx(2 * summary["clock"]["used_seconds"])


def test_one_rank_prints_and_writes(both: tuple[RunDir, list[str]]) -> None:
    """Each event once, each row once, and the rooms after training are one process's."""
    run, lines = both
    for event in ("run", "prepared", "fit", "start", "trained", "export", "report"):
        assert len([line for line in lines if f'"event": "{event}"' in line]) == 1
    assert [row.step for _, row in read(run.journal) if isinstance(row, Step)] == list(range(1, STEPS + 1))
    assert run.report.is_file() and (run.model / "config.json").is_file()


@contextlib.contextmanager
def launched(place: Path, name: str, *command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command as two ranks, of which none outlives the block."""
    process = start(place, name, *command, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for rank in psutil.Process(process.pid).children(recursive=True):
                rank.kill()
        process.kill()
        process.wait()


def wait_until(what: Callable[[], bool], process: subprocess.Popen[bytes], err: Path) -> None:
    """Until it is so, while the process lives."""
    deadline = time.monotonic() + 100
    while not what():
        assert process.poll() is None and time.monotonic() < deadline, err.read_text()
        time.sleep(0.005)


def test_a_run_of_two_ranks_that_was_stopped_goes_on_with_one(place: Path, alone: RunDir) -> None:
    """A signal to the launcher saves; the same command without it goes on with the next row, by the same clock."""
    run, gate, err = RunDir(place / "runs" / "stopped"), place / "gate", place / "stopped.err"
    gated = {"program": (GATED,), "GATE": "step", "GATE_FILE": str(gate)}
    with launched(place, "stopped", "train", "tiny.toml", **gated) as process:
        wait_until(gate.exists, process, err)  # rank 0 stands in the middle of the run until it has been told to leave
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: err.read_bytes().count(b"closing signal SIGTERM") == 2, process, err)
        gate.unlink()
        code, _, said = finish(place, "stopped", process)
    assert code != 0, said
    assert steps(run)[-1].step == STOPPED
    assert read_json(run.heartbeat)["stopped"] is True
    train_alone(place, "stopped")
    assert [row.ranks for _, row in read(run.journal) if isinstance(row, Start)] == [2, 1]
    assert [row.step for _, row in read(run.journal) if isinstance(row, Step)] == list(range(1, STEPS + 1))
    assert [row.first_row for row in steps(run)] == [row.first_row for row in steps(alone)]
    assert [row.loss for row in steps(run)] == pytest.approx([row.loss for row in steps(alone)], rel=ROUNDING)


def test_a_rank_that_dies_ends_the_others(place: Path) -> None:
    """kill -9 of one that does not lead: all are gone within seconds, not after the time limit of a collective."""
    run = RunDir(place / "runs" / "dead")
    with launched(place, "dead", "train", "tiny.toml", "--budget", "100000steps") as process:
        begun = b'"kind": "step"'
        wait_until(lambda: run.journal.exists() and begun in run.journal.read_bytes(), process, place / "dead.err")
        leader = int((run.root / ".lock").read_text().split()[1])
        ranks = psutil.Process(process.pid).children()
        (other,) = (rank for rank in ranks if rank.pid != leader)
        began = time.monotonic()
        other.kill()
        code, _, _ = finish(place, "dead", process)
    assert code != 0
    assert time.monotonic() - began < 45
    assert not any(rank.is_running() for rank in ranks)
