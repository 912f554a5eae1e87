"""One checkpoint's folder: read to the bit, or refused with the reason."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpuday.train import checkpoint, saved_folder
from gpuday.train.saved_folder import Damaged


def write(root: Path, step: int, **state: object) -> Path:
    """A folder whose tensors tell its step."""
    tensors = {"a": torch.full((3, 5), float(step))}
    progress = {"progress": {"step": step, **state}}
    return checkpoint.save(root, step, model=tensors, optimizer={"m": tensors["a"].bfloat16()}, state=progress)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """Both sets of tensors, the state, and the folder that it came from."""
    folder = write(tmp_path, 3)
    saved = saved_folder.read(folder)
    assert saved.folder == folder and saved.state == {"progress": {"step": 3}} and not saved.passed_over
    tensors: tuple[Tensor, Tensor] = (saved.model["a"], saved.optimizer["m"])
    assert [t.dtype for t in tensors] == [torch.float32, torch.bfloat16]
    assert all(t.tolist() == [[3.0] * 5] * 3 for t in tensors)


def test_every_single_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    """The manifest vouches for the others and for itself: all of its bits, one after the other."""
    data = (write(tmp_path, 2) / "manifest.json").read_bytes()
    assert saved_folder.unsealed(data)["step"] == 2
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            saved_folder.unsealed(bytes(changed))


def refused(root: Path, folder: Path) -> str:
    """Why a folder is not read; loading sets it aside for the same reason and takes none."""
    with pytest.raises(Damaged) as reason:
        saved_folder.read(folder)
    assert not saved_folder.is_whole(folder)
    told: list[str] = []
    taken = checkpoint.load_newest(root, warn=told.append)
    assert taken is None or taken.folder != folder
    assert [p.name for p in root.glob("*.bad-*")] == [f"{folder.name}.bad-{reason.value}"]
    assert len(told) == 1 and str(reason.value) in told[0]
    return str(reason.value)


def test_files_of_two_checkpoints_are_not_mixed(tmp_path: Path) -> None:
    """A whole and valid file of another step is damage too, and the one of that step is taken."""
    first, second = write(tmp_path, 1), write(tmp_path, 2)
    shutil.copy(first / "model.safetensors", second / "model.safetensors")
    assert refused(tmp_path, second) == "wrong-checksum-model.safetensors"
    taken = checkpoint.load_newest(tmp_path, warn=lambda _: None)
    assert taken is not None and taken.folder == first


def test_a_folder_under_another_steps_name_is_noticed(tmp_path: Path) -> None:
    """A copy that somebody renamed would set the clock wrong."""
    os.rename(write(tmp_path, 1), tmp_path / "step-00000007")
    assert refused(tmp_path, tmp_path / "step-00000007") == "wrong-step"


def remove(path: Path) -> None:
    path.unlink()


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(remove, "missing-state.json"), (replace_by_a_folder, "wrong-size-state.json"), (grow, "wrong-size-state.json")],
)
def test_the_reason_says_what_is_the_matter(tmp_path: Path, damage: Callable[[Path], None], reason: str) -> None:
    """In words that a folder's name can hold; and nothing is told of a state that is not whole."""
    folder = write(tmp_path, 1)
    damage(folder / "state.json")
    assert saved_folder.peek(folder) == {}
    assert not saved_folder.is_called_sound(folder)
    assert refused(tmp_path, folder) == reason


def test_what_the_system_refuses_to_read_is_neither_whole_nor_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading raises what the system said; looking at its state tells nothing."""
    folder = write(tmp_path, 1)

    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError):
        saved_folder.read(folder)
    assert not saved_folder.is_whole(folder)
    assert saved_folder.peek(folder) == {}


@pytest.mark.parametrize(("branch", "age"), [(2, (2, 9)), (0, (0, 9)), ("2", (0, 9)), (-1, (0, 9)), (None, (0, 9))])
def test_its_age_is_its_branch_and_its_step(tmp_path: Path, branch: object, age: tuple[int, int]) -> None:
    """A branch that is no count is none: nobody's file makes a folder the newest."""
    assert saved_folder.age(write(tmp_path, 9, branch=branch)) == age
