"""Which checkpoint a run goes on from: the same on every rank, taken by rank 0 alone, and never random weights in its place."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from gpuday.core.errors import DataError, EnvironmentFault
from gpuday.core.journal import Checkpoint, Journal, Note
from gpuday.core.rundir import RunDir
from gpuday.train import checkpoint
from gpuday.train.parallel import Ranks
from gpuday.train.resuming import newest, refuse_anew

T = TypeVar("T")


def save(run: RunDir, step: int, value: float = 0.0) -> Path:
    return checkpoint.save(
        run.checkpoints, step, model={"a": torch.full((2,), value)}, optimizer={}, state={"progress": {"step": step}}
    )


class Told(Ranks):
    """Rank 1, which hears what rank 0 said before it looked."""

    def __init__(self, said: Sequence[float]) -> None:
        super().__init__(1, 2)
        self._said = list(said)

    def lead_first(self, lead: Callable[[], T], others: Callable[[], T] | None = None) -> T:
        assert others is not None
        return others()

    def broadcast(self, values: Sequence[float]) -> list[float]:
        return self._said


class Telling(Ranks):
    """Rank 0, whose words are kept."""

    said: Sequence[float] = ()

    def broadcast(self, values: Sequence[float]) -> list[float]:
        self.said = values
        return list(values)


def look(run: RunDir, ranks: Ranks) -> Any:
    return newest(run, ranks, warn=lambda _: None)


def test_the_others_read_what_rank_0_took_and_change_nothing(run: RunDir) -> None:
    """Rank 0 sets the damaged one aside; the other takes the same step although it still sees both."""
    for step in (1, 2):
        save(run, step)
    (run.checkpoints / "step-00000002" / "state.json").write_bytes(b"[]")
    seen_by_1 = RunDir(run.root.with_name("seen"))
    shutil.copytree(run.root, seen_by_1.root)
    leader = Telling()
    assert look(run, leader).folder.name == "step-00000001"
    before = sorted(p.relative_to(seen_by_1.root) for p in seen_by_1.root.rglob("*"))
    assert look(seen_by_1, Told(leader.said)).folder.name == "step-00000001"
    assert sorted(p.relative_to(seen_by_1.root) for p in seen_by_1.root.rglob("*")) == before
    assert look(seen_by_1, Told((-1.0, 0.0, 0.0))) is None


@pytest.mark.parametrize("what", ["missing", "damaged", "earlier"])
def test_a_rank_that_sees_another_folder_says_so(run: RunDir, what: str) -> None:
    """Exit code 5, and nothing is renamed: its view of the disk may be late."""
    save(run, 1)
    leader = Telling()
    look(run, leader)
    if what == "missing":
        shutil.rmtree(run.checkpoints / "step-00000001")
    elif what == "damaged":
        (run.checkpoints / "step-00000001" / "state.json").write_bytes(b"[]")
    else:
        save(run, 1, value=5.0)
    names = sorted(p.name for p in run.checkpoints.iterdir())
    with pytest.raises(EnvironmentFault, match="rank 0 took the checkpoint of step 1, and rank 1 ") as caught:
        look(run, Told(leader.said))
    assert "same run folder" in caught.value.fix
    assert sorted(p.name for p in run.checkpoints.iterdir()) == names


def journal(run: RunDir, *rows: Any) -> None:
    with Journal(run.journal, attempt=1) as file:
        for row in rows:
            file.write(row)


def test_a_run_without_a_checkpoint_may_begin(run: RunDir) -> None:
    """A new one, and one that was killed before its first."""
    refuse_anew(run)
    journal(run, Note(step=0, message="killed soon"))
    run.checkpoints.mkdir()
    refuse_anew(run)


@pytest.mark.parametrize("left", ["aside", "folder", "journal"])
def test_a_run_that_had_checkpoints_does_not_begin_anew(run: RunDir, left: str) -> None:
    """Exit code 3 for what was set aside, for a folder that cannot be loaded, and for a row that alone is left."""
    folder = save(run, 4)
    if left == "aside":
        folder.rename(folder.with_name("step-00000004.bad-wrong-step"))
    elif left == "journal":
        shutil.rmtree(folder)
        journal(run, Checkpoint(step=4, seconds=1.0, save_seconds=0.1, folder="step-00000004"))
    with pytest.raises(DataError, match="none can be loaded") as caught:
        refuse_anew(run)
    assert ("step-00000004" in caught.value.what) == (left != "journal")
    assert "from a copy" in caught.value.fix and str(run.root) in caught.value.fix and "--out" in caught.value.fix
