"""Which checkpoints are kept, which is the newest, and that what cannot be read is not taken for damaged."""

import errno
import os
from pathlib import Path

import pytest
import torch

from gpuday.core.errors import EnvironmentFault
from gpuday.train import checkpoint
from gpuday.train.checkpoint import Saved


def save(root: Path, step: int) -> Path:
    return checkpoint.save(root, step, model={"a": torch.zeros(3)}, optimizer={}, state={"progress": {"step": step}})


def load(root: Path) -> tuple[Saved | None, list[str]]:
    warnings: list[str] = []
    return checkpoint.load_newest(root, warn=warnings.append), warnings


def step_of(saved: Saved | None) -> int:
    assert saved is not None
    return int(saved.state["progress"]["step"])


def names(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir())


def refuse_reading(patch: pytest.MonkeyPatch, number: int, *folders: str) -> None:
    """Let the system refuse to read the files of these folders."""
    read = Path.read_bytes

    def refusing(path: Path) -> bytes:
        if path.parent.name in folders:
            raise OSError(number, os.strerror(number), os.fspath(path))
        return read(path)

    patch.setattr(Path, "read_bytes", refusing)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EMFILE, errno.ENOMEM, errno.EPERM])
def test_what_the_system_refuses_to_read_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Exit code 5, nothing renamed or removed, and when it passes everything is there."""
    for step in (1, 2):
        save(tmp_path, step)
    before = names(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(EnvironmentFault, match=os.strerror(number)) as caught:
        refuse_reading(patch, number, "step-00000002")
        load(tmp_path)
    assert "same command" in caught.value.fix
    assert names(tmp_path) == before
    assert step_of(load(tmp_path)[0]) == 2


def test_one_that_the_disk_fails_to_read_is_passed_over_and_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO: the one before, with a warning; where all are so, exit code 5, and no word of damage."""
    for step in (1, 2):
        save(tmp_path, step)
    before = names(tmp_path)
    with monkeypatch.context() as patch:
        refuse_reading(patch, errno.EIO, "step-00000002")
        saved, warnings = load(tmp_path)
    assert step_of(saved) == 1 and saved is not None and saved.passed_over
    assert len(warnings) == 1 and "step-00000002 cannot be read" in warnings[0] and "damaged" not in warnings[0]
    with monkeypatch.context() as patch, pytest.raises(EnvironmentFault):
        refuse_reading(patch, errno.EIO, "step-00000001", "step-00000002")
        load(tmp_path)
    assert names(tmp_path) == before


@pytest.mark.parametrize(("older", "told"), [(3, "4 steps are made again"), (6, "1 step is made again"), (None, "")])
def test_a_word_of_damage_says_how_many_steps_are_made_again(tmp_path: Path, older: int | None, told: str) -> None:
    """From the one before to the one that is gone; where there is none before, nothing can be said."""
    for step in [7] if older is None else [older, 7]:
        save(tmp_path, step)
    (tmp_path / "step-00000007" / "state.json").write_text("")
    saved, (warning,) = load(tmp_path)
    assert (None if saved is None else step_of(saved)) == older
    assert warning.endswith(f"trying the one before, after which {told}" if told else "trying the one before")


def test_nothing_is_said_of_steps_where_the_one_before_is_of_a_larger_step(tmp_path: Path) -> None:
    """The run had gone back: the older branch is the one before, and was further on."""
    save_on(tmp_path, 9)
    save_on(tmp_path, 4, branch=1)
    (tmp_path / "step-00000004" / "model.safetensors").write_text("")
    assert load(tmp_path)[1][0].endswith("trying the one before")


def save_on(root: Path, step: int, *, branch: int = 0, sound: bool = True) -> Path:
    state = {"progress": {"step": step, "branch": branch}, "sound": sound}
    return checkpoint.save(root, step, model={}, optimizer={}, state=state)


def test_a_checkpoint_of_a_later_branch_is_the_newer(tmp_path: Path) -> None:
    """A run that went back is at a smaller step; what it left behind neither pushes its checkpoints out nor is resumed."""
    save_on(tmp_path, 8)
    save_on(tmp_path, 9)
    save_on(tmp_path, 3, branch=1)
    assert checkpoint.steps(tmp_path) == [3, 9]
    saved, warnings = load(tmp_path)
    assert saved is not None and saved.folder.name == "step-00000003" and warnings == []
    assert checkpoint.newest_state(tmp_path)["progress"] == {"step": 3, "branch": 1}


def test_what_was_just_saved_is_never_what_makes_room(tmp_path: Path) -> None:
    """Even beside two of larger steps, which nobody took."""
    save_on(tmp_path, 8)
    save_on(tmp_path, 9)
    save_on(tmp_path, 3)
    assert checkpoint.steps(tmp_path) == [9, 8, 3]


def test_the_newest_sound_checkpoint_stays_beside_doubtful_ones(tmp_path: Path) -> None:
    """However many signals come within a series of refused updates; a sound one lets it go."""
    save_on(tmp_path, 1)
    save_on(tmp_path, 2)
    for step in (5, 6, 7):
        save_on(tmp_path, step, sound=False)
    assert checkpoint.steps(tmp_path) == [7, 6, 2]
    assert checkpoint.make_room(tmp_path) == "step-00000006"
    assert checkpoint.make_room(tmp_path) == "step-00000007"
    assert checkpoint.make_room(tmp_path) == ""
    for step in (8, 9):
        save_on(tmp_path, step)
    assert checkpoint.steps(tmp_path) == [9, 8]


@pytest.mark.parametrize("what", ["LATEST", "the folder", "the old one"])
def test_a_checkpoint_that_stands_is_saved_whatever_fails_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Its folder comes back, the same step may be saved again and again, and a load takes the newest content."""
    save(tmp_path, 4)
    warnings: list[str] = []

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        if what == "LATEST":
            patch.setattr(checkpoint, "write_atomic", fail)
        elif what == "the folder":
            sync = checkpoint.fsync_folder
            patch.setattr(checkpoint, "fsync_folder", lambda path: fail() if path == tmp_path else sync(path))
        else:
            patch.setattr(os, "rmdir", fail)
        for version in range(3):
            state = {"progress": {"step": 4}, "version": version}
            folder = checkpoint.save(tmp_path, 4, model={}, optimizer={}, state=state, warn=warnings.append)
            assert folder.name == "step-00000004"
    assert len(warnings) == (0 if what == "the old one" else 3)
    saved, _ = load(tmp_path)
    assert saved is not None and saved.state["version"] == 2
    assert [n for n in names(tmp_path) if n.startswith(".")] == []
