"""Disks that are full, read-only or broken: training goes on, what was whole stays whole, and the end is told truly."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuday.core.errors import EnvironmentFault, Interrupted
from gpuday.core.journal import Checkpoint, Note, Step, read, surviving
from gpuday.core.rundir import RunDir
from gpuday.train import checkpoint
from gpuday.train.checkpoint import Saved

ROOT = Path(__file__).resolve().parents[2]
TrainRun = Callable[..., Any]
MakeRecipe = Callable[..., Any]
FAULTS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO]
NAMES = [errno.errorcode[number] for number in FAULTS]
STEPS = 10


@pytest.fixture
def recipe(make_recipe: MakeRecipe) -> Any:
    """Ten steps, with a checkpoint after each."""
    return make_recipe(f"{STEPS}steps", train__save_every_seconds=0.0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Filled by the first test that trains without a fault: the final files by name."""
    return {}


def whole(run: RunDir) -> Saved:
    """The newest checkpoint; every file of every folder is as its manifest says, and nothing half-written is there."""
    assert [p.name for p in run.checkpoints.iterdir() if p.name.startswith(".")] == []
    saved = checkpoint.load_newest(run.checkpoints, warn=pytest.fail)
    assert saved is not None
    return saved


def notes(run: RunDir) -> list[str]:
    return [row.message for _, row in read(run.journal) if isinstance(row, Note)]


def between(first: int, last: int, act: Callable[[], None], stop: Callable[[], None]) -> Callable[..., None]:
    """A screen that acts when the step `first` is told, and stops when `last` is."""

    def tell(event: str, /, **values: Any) -> None:
        if event == "step":
            (act if values["step"] == first else stop if values["step"] == last else lambda: None)()

    return tell


@pytest.fixture
def final(train_run: TrainRun, recipe: Any, run: RunDir, undisturbed: dict[str, bytes]) -> dict[str, bytes]:
    """Weights and optimizer of the same run without a fault."""
    if not undisturbed:
        calm = RunDir(run.root.with_name("calm"))
        train_run(recipe, calm)
        undisturbed.update({n: (whole(calm).folder / n).read_bytes() for n in (checkpoint.MODEL, checkpoint.OPTIMIZER)})
    return undisturbed


def same(run: RunDir, final: dict[str, bytes]) -> bool:
    saved = whole(run)
    return saved.state["progress"]["step"] == STEPS and all(
        (saved.folder / n).read_bytes() == d for n, d in final.items()
    )


@pytest.mark.parametrize("number", FAULTS, ids=NAMES)
def test_saves_that_fail_for_a_while_do_not_end_training(
    train_run: TrainRun, recipe: Any, run: RunDir, disk: Any, final: dict[str, bytes], number: int
) -> None:
    """From step 3 to step 6 nothing can be written where checkpoints are: told once when it begins and once when it ends,
    the newest whole checkpoint is never given up, and the weights end to the bit where they would have."""
    seen: list[list[int]] = []

    def calm() -> None:
        seen.append(checkpoint.steps(run.checkpoints))
        disk.recovers()

    train_run(recipe, tell=between(3, 6, lambda: disk.fails(number, run.checkpoints), calm))
    assert disk.refused >= 3
    assert same(run, final)
    # A full disk gave up the older of the two; no other fault is mended by that.
    assert seen == ([[2]] if number in (errno.ENOSPC, errno.EDQUOT) else [[2, 1]])
    said = notes(run)
    assert len([n for n in said if "no checkpoint can be written" in n and "step 2 is intact" in n]) == 1
    assert len([n for n in said if "can be written again" in n]) == 1
    assert len([n for n in said if "removed to make room" in n]) == (number in (errno.ENOSPC, errno.EDQUOT))
    saved = [row.step for row in surviving(run.journal) if isinstance(row, Checkpoint)]
    assert saved == [0, 1, 2, 6, 7, 8, 9, 10, 10]


@pytest.mark.parametrize("number", FAULTS, ids=NAMES)
def test_a_final_save_that_cannot_be_made_ends_the_run_and_loses_no_checkpoint(
    train_run: TrainRun, recipe: Any, run: RunDir, disk: Any, final: dict[str, bytes], number: int
) -> None:
    """Exit code 5 with the step that is intact and what to do; mended, the same command ends where it would have."""
    with pytest.raises(EnvironmentFault, match=os.strerror(number)) as caught:
        train_run(recipe, tell=between(8, 0, lambda: disk.fails(number, run.checkpoints), lambda: None))
    assert "the one of step 7 is intact" in caught.value.what
    assert str(run.checkpoints) in caught.value.where and "same command" in caught.value.fix
    disk.recovers()
    assert whole(run).state["progress"]["step"] == 7
    train_run(recipe)
    assert same(run, final)


@pytest.mark.parametrize("number", FAULTS, ids=NAMES)
def test_a_pointer_that_cannot_be_written_fails_no_save(
    train_run: TrainRun, recipe: Any, run: RunDir, disk: Any, final: dict[str, bytes], number: int
) -> None:
    """LATEST is for readers: every checkpoint counts as saved, the two newest are kept, and it is said once."""
    train_run(recipe, tell=between(3, 0, lambda: disk.fails(number, run.checkpoints / ".LATEST"), lambda: None))
    assert disk.refused >= STEPS - 3
    assert same(run, final)
    assert len([n for n in notes(run) if "LATEST cannot be written" in n]) == len(notes(run)) == 1
    saved = [row.step for row in surviving(run.journal) if isinstance(row, Checkpoint)]
    assert saved == [*range(STEPS + 1), STEPS]


def test_a_checkpoint_that_the_disk_fails_to_read_stays_and_is_never_gone_back_to(
    train_run: TrainRun, recipe: Any, run: RunDir, at_step: Any, send: Any, final: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """EIO in the newest: the run goes on from the one before; a later resume takes what that made, and not the checkpoint
    of the larger step, though it can be read again."""
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(6, send(signal.SIGTERM)))
    read_bytes = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.parent.name == "step-00000006":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_bytes(path)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Path, "read_bytes", failing)
        train_run(recipe, tell=at_step(6, send(signal.SIGTERM)))
    assert not list(run.checkpoints.glob("*.bad-*"))
    assert any("step-00000006 cannot be read" in n for n in notes(run))
    train_run(recipe)
    assert same(run, final)


def test_a_save_after_a_signal_that_cannot_be_made_says_so(
    train_run: TrainRun, recipe: Any, run: RunDir, disk: Any, final: dict[str, bytes], send: Any
) -> None:
    """Exit code 5, and not 75: the steps since the checkpoint are lost, and the same command makes them again."""

    def leave() -> None:
        disk.fails(errno.ENOSPC, run.checkpoints)
        send(signal.SIGTERM)()

    with pytest.raises(EnvironmentFault, match="the one of step 4 is intact"):
        train_run(recipe, tell=between(5, 0, leave, lambda: None))
    disk.recovers()
    assert whole(run).state["progress"]["step"] == 4
    train_run(recipe)
    assert same(run, final)


def test_a_first_save_that_cannot_be_made_ends_the_run_before_it_trains(
    train_run: TrainRun, recipe: Any, run: RunDir, disk: Any
) -> None:
    """Nothing is lost yet, and whoever gave the command is still there."""
    disk.fails(errno.EROFS, run.checkpoints)
    with pytest.raises(EnvironmentFault, match="there is no earlier one"):
        train_run(recipe)
    assert not [row for _, row in read(run.journal) if isinstance(row, Step)]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_rows_that_the_journal_could_not_take_are_written_later(
    train_run: TrainRun, recipe: Any, run: RunDir, disk: Any, number: int
) -> None:
    """No row is lost, none is torn, their order is kept; the screen hears of it twice."""
    told: list[str] = []
    act = between(3, 7, lambda: disk.fails(number, run.journal, run.heartbeat), disk.recovers)

    def tell(event: str, /, **values: Any) -> None:
        act(event, **values)
        if event == "notice":
            told.append(values["message"])

    train_run(recipe, tell=tell)
    assert disk.refused > 4
    lines = run.journal.read_bytes().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert [row.step for _, row in read(run.journal) if isinstance(row, Step)] == list(range(1, STEPS + 1))
    assert [("waits" in m or "wait in memory" in m, "no row was lost" in m) for m in told] == [
        (True, False),
        (False, True),
    ]


def test_a_journal_that_cannot_be_written_to_the_end_is_told_with_its_loss(
    train_run: TrainRun, recipe: Any, run: RunDir, disk: Any, final: dict[str, bytes]
) -> None:
    """Exit code 5 although the weights are whole: how many rows are lost is said."""
    with pytest.raises(EnvironmentFault, match=r"the last \d+ rows of the journal") as caught:
        train_run(recipe, tell=between(8, 0, lambda: disk.fails(errno.ENOSPC, run.journal), lambda: None))
    assert "checkpoints are intact" in caught.value.fix
    disk.recovers()
    assert same(run, final)
    assert [row.step for _, row in read(run.journal) if isinstance(row, Step)] == list(range(1, 9))


@contextlib.contextmanager
def mounted(place: Path, size: int) -> Iterator[Path]:
    """A file system in memory of so many bytes; skips where it cannot be had."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here: the same was tested with faults that were put in")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_real_disk_that_runs_full_ends_no_run(
    train_run: TrainRun, recipe: Any, run: RunDir, tmp_path: Path, final: dict[str, bytes]
) -> None:
    """On a file system with room for two checkpoints and a half the older one makes room; while a file takes all that is
    left training goes on, and when it is gone the run ends where it would have."""
    calm = run.root.with_name("measured")
    train_run(recipe, RunDir(calm))
    size = sum(p.stat().st_size for p in next((calm / "checkpoints").glob("step-*")).iterdir())
    with mounted(tmp_path / "small", int(2.6 * size)) as small:
        there, filler = RunDir(small / "run"), small / "filler"

        def fill() -> None:
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)

        train_run(recipe, there, tell=between(4, 7, fill, filler.unlink))
        assert same(there, final)
        said = notes(there)
        assert [n for n in said if "removed to make room" in n]
        assert len([n for n in said if "No space left on device" in n]) == 1
        saved = [row.step for row in surviving(there.journal) if isinstance(row, Checkpoint)]
        assert {*range(8, STEPS + 1)} < {*saved}
        assert [row.step for _, row in read(there.journal) if isinstance(row, Step)] == list(range(1, STEPS + 1))


def test_a_screen_on_a_full_disk_costs_nothing(tmp_path: Path, tiny_toml: Callable[..., str]) -> None:
    """`gpuday train > log` with no room for the log: trained, exit code 0, no traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    (tmp_path / "tiny.toml").write_text(tiny_toml(budget="3steps"))
    command = [sys.executable, "-m", "gpuday", "train", "tiny.toml", "--out", "runs/mine"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "GPUDAY_CACHE": str(tmp_path / "cache")}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr
    assert (tmp_path / "runs" / "mine" / "summary.json").exists()
