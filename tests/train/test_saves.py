"""Saves on a disk that does not take them: room is made where that helps, and what happens is told once."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpuday.core.errors import EnvironmentFault
from gpuday.train import checkpoint
from gpuday.train.saves import Saves


def save(root: Path, step: int) -> Path:
    return checkpoint.save(root, step, model={"a": torch.zeros(2)}, optimizer={}, state={})


def failing(root: Path, step: int, *numbers: int) -> Callable[[], Path]:
    """A save that fails with each of the numbers, one a call, and then succeeds."""
    left = list(numbers)

    def write() -> Path:
        if left:
            number = left.pop(0)
            raise OSError(number, os.strerror(number))
        return save(root, step)

    return write


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def saves(tmp_path: Path, notes: list[str]) -> Saves:
    """Of a run with checkpoints of steps 1 and 2."""
    save(tmp_path, 1)
    save(tmp_path, 2)
    return Saves(tmp_path, notes.append)


def test_a_save_that_succeeds_says_nothing(saves: Saves, tmp_path: Path, notes: list[str]) -> None:
    """Its folder comes back."""
    assert saves.make(failing(tmp_path, 3), must=False) == tmp_path / "step-00000003"
    assert notes == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_gives_up_the_oldest_and_tries_again(
    saves: Saves, tmp_path: Path, notes: list[str], number: int
) -> None:
    """Never the newest; told once for as long as it goes on."""
    assert saves.make(failing(tmp_path, 3, number), must=False) is not None
    assert checkpoint.steps(tmp_path) == [3, 2]
    assert saves.make(failing(tmp_path, 4, number), must=False) is not None
    assert checkpoint.steps(tmp_path) == [4, 3]
    assert notes == ["the disk is full: step-00000001 is removed to make room for a newer checkpoint"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES])
def test_other_faults_give_nothing_up(saves: Saves, tmp_path: Path, notes: list[str], number: int) -> None:
    """Room would not help."""
    assert saves.make(failing(tmp_path, 3, number), must=False) is None
    assert checkpoint.steps(tmp_path) == [2, 1]
    assert notes == [
        f"no checkpoint can be written ({os.strerror(number)}); training goes on; the one of step 2 is intact"
    ]


def test_a_fault_is_told_when_it_begins_changes_and_ends(saves: Saves, tmp_path: Path, notes: list[str]) -> None:
    """Not with each of many attempts."""
    for number in (errno.EIO, errno.EIO, errno.EROFS, errno.EROFS):
        saves.make(failing(tmp_path, 3, number), must=False)
    saves.make(failing(tmp_path, 3), must=False)
    saves.make(failing(tmp_path, 4), must=False)
    assert [("Input/output" in n, "Read-only" in n, "again" in n) for n in notes] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


def test_damaged_checkpoints_are_given_up_before_whole_ones(saves: Saves, tmp_path: Path, notes: list[str]) -> None:
    """What was set aside is kept for people, not at the price of a checkpoint."""
    os.rename(save(tmp_path, 3), tmp_path / "step-00000003.bad-wrong-step")
    save(tmp_path, 1)
    saves.make(failing(tmp_path, 4, errno.ENOSPC), must=False)
    assert "step-00000003.bad-wrong-step is removed" in notes[0]
    assert checkpoint.steps(tmp_path) == [4, 2]


def test_the_older_one_stays_where_the_newest_is_damaged(saves: Saves, tmp_path: Path, notes: list[str]) -> None:
    """The last whole checkpoint is never given up, whichever it is."""
    (tmp_path / "step-00000002" / "state.json").write_bytes(b"[]")
    assert saves.make(failing(tmp_path, 3, errno.ENOSPC), must=False) is None
    assert checkpoint.steps(tmp_path) == [2, 1]


def test_the_only_checkpoint_stays(tmp_path: Path, notes: list[str]) -> None:
    """Even if the disk stays full."""
    save(tmp_path, 2)
    assert Saves(tmp_path, notes.append).make(failing(tmp_path, 3, *[errno.ENOSPC] * 9), must=False) is None
    assert checkpoint.steps(tmp_path) == [2]


def test_a_save_that_must_be_made_ends_the_run(saves: Saves, tmp_path: Path) -> None:
    """With what is intact, where, and what to do; on a full disk after room was made."""
    with pytest.raises(EnvironmentFault, match="No space left on device; the one of step 2 is intact") as caught:
        saves.make(failing(tmp_path, 3, *[errno.ENOSPC] * 9), must=True)
    assert caught.value.where == str(tmp_path) and "same command" in caught.value.fix
    assert checkpoint.steps(tmp_path) == [2]
    with pytest.raises(EnvironmentFault, match="there is no earlier one"):
        Saves(tmp_path / "none", print).make(failing(tmp_path, 3, errno.EROFS), must=True)


def test_a_fault_of_our_own_is_not_the_disks(saves: Saves) -> None:
    """Only what the system says is caught."""

    def write() -> Path:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        saves.make(write, must=False)


def test_what_fails_beside_a_checkpoint_that_stands_is_said_once(saves: Saves, notes: list[str]) -> None:
    """Whatever the name of the checkpoint is."""
    for step in range(3):
        saves.say_once(f"LATEST cannot be written; step {step} is whole")
    saves.say_once("another fault")
    assert notes == ["LATEST cannot be written; step 0 is whole", "another fault"]
