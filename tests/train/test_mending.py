"""A damaged file of a run's record: written again from what still knows it, set aside, told; or refused with the reason."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpuday.core import config
from gpuday.core.errors import DataError, EnvironmentFault, UsageError
from gpuday.core.rundir import RunDir, read_json, write_json
from gpuday.recipe import Recipe
from gpuday.train import checkpoint, mending
from gpuday.train.fit import Fit
from gpuday.train.mending import mend

BAD = [b"", b"{", b"[]", b"5", b"\xff\xfe", b'{"surprise": 1}', b"\x00" * 50]


@pytest.fixture
def trained(tiny: Recipe, pinned: Fit, finished: RunDir) -> RunDir:
    """A finished run with its record."""
    run = finished
    write_json(run.recipe, config.to_dict(tiny))
    write_json(run.fit, config.to_dict(pinned))
    write_json(run.summary, {"train": {}})
    write_json(run.environment, {"attempts": [{}]})
    return run


def test_a_whole_record_is_left_alone(trained: RunDir, tiny: Recipe) -> None:
    """Nothing is said, and no tensor is read."""
    before = {p.name: p.read_bytes() for p in trained.root.glob("*.json")}
    shutil.rmtree(trained.checkpoints / "step-00000006")
    mend(trained, tiny, pytest.fail)
    assert {p.name: p.read_bytes() for p in trained.root.glob("*.json")} == before


def test_a_new_run_has_no_record_to_mend(run: RunDir, tiny: Recipe) -> None:
    """What is not there yet is no damage."""
    run.root.mkdir()
    mend(run, tiny, pytest.fail)
    assert list(run.root.iterdir()) == []


def test_every_damage_is_mended_from_what_still_knows(trained: RunDir, tiny: Recipe, pinned: Fit) -> None:
    """The recipe from the command, whose fingerprint the checkpoint has; the fit from the checkpoint; what can be made
    again is out of the way. What was damaged is kept."""
    for path in (trained.recipe, trained.fit, trained.summary, trained.environment):
        whole = path.read_bytes()
        for content in BAD:
            if path == trained.summary and content == BAD[5]:
                continue  # a summary may hold any key
            told: list[str] = []
            path.write_bytes(content)
            mend(trained, tiny, told.append)
            assert len(told) == 1 and path.name in told[0] and "damaged" in told[0]
            assert any(p.read_bytes() == content for p in trained.root.glob(f"{path.name}.bad-*"))
            assert path.exists() == (path in (trained.recipe, trained.fit))
            path.write_bytes(whole)
        path.write_bytes(BAD[1])
        mend(trained, tiny, lambda _: None)
        if path.exists():
            assert path.read_bytes() == whole
    assert config.from_dict(Fit, read_json(trained.fit)) == pinned


@pytest.mark.parametrize("name", ["recipe", "fit"])
def test_a_file_that_is_gone_is_mended_as_well(trained: RunDir, tiny: Recipe, name: str) -> None:
    """Another fit would change the batch of a run that has begun."""
    path: Path = getattr(trained, name)
    whole, told = path.read_bytes(), list[str]()
    path.unlink()
    mend(trained, tiny, told.append)
    assert path.read_bytes() == whole and "is gone" in told[0]


@pytest.mark.parametrize("content", [None, b"{"])
def test_checkpoints_of_another_recipe_are_not_taken_over(trained: RunDir, tiny: Recipe, content: bytes | None) -> None:
    """Exit code 3: the command is not the one that began the run, and nothing is changed."""
    trained.recipe.unlink()
    if content is not None:
        trained.recipe.write_bytes(content)
    with pytest.raises(DataError, match="another recipe") as caught:
        mend(trained, config.replace_at(tiny, "seed", 7), pytest.fail)
    assert "command that began the run" in caught.value.fix
    assert trained.recipe.exists() == (content is not None)


def test_without_a_checkpoint_the_command_decides(trained: RunDir, tiny: Recipe) -> None:
    """Nothing was trained yet: recipe.json is this command's, and the fit is measured again."""
    shutil.rmtree(trained.checkpoints)
    other, told = config.replace_at(tiny, "seed", 7), list[str]()
    trained.recipe.write_bytes(b"{")
    trained.fit.write_bytes(b"{")
    mend(trained, other, told.append)
    assert config.from_dict(Recipe, read_json(trained.recipe)) == other
    assert not trained.fit.exists() and "measured again" in told[1]


@pytest.mark.parametrize("kept", [5, [], {"surprise": 1}, {"device": None}])
def test_a_fit_that_the_checkpoint_does_not_hold_is_refused(
    trained: RunDir, tiny: Recipe, monkeypatch: pytest.MonkeyPatch, kept: object
) -> None:
    """Of another version, or by another hand: measuring again would change the batch. What was there stays."""
    load = mending.load_newest

    def changed(*args: Any, **options: Any) -> Any:
        saved = load(*args, **options)
        assert saved is not None
        saved.state["fit"] = kept
        return saved

    monkeypatch.setattr(mending, "load_newest", changed)
    trained.fit.write_bytes(b"{")
    with pytest.raises(DataError, match="of another version") as caught:
        mend(trained, tiny, pytest.fail)
    assert "restore" in caught.value.fix and trained.fit.read_bytes() == b"{"


def test_a_flipped_digit_in_the_fit_is_not_resumed_with(trained: RunDir, tiny: Recipe, pinned: Fit) -> None:
    """Valid JSON, and another batch: the checkpoints' fit is taken, the file set aside and told."""
    text = trained.fit.read_text()
    flipped = text.replace('"rows": 8', '"rows": 9')
    assert flipped != text
    trained.fit.write_text(flipped)
    told: list[str] = []
    mend(trained, tiny, told.append)
    assert config.from_dict(Fit, read_json(trained.fit)) == pinned
    assert len(told) == 1 and "not that of the checkpoints" in told[0] and "taken from the checkpoint" in told[0]
    assert (trained.root / "fit.json.bad-another").read_text() == flipped


def test_checkpoints_of_another_recipe_are_refused_beside_a_whole_record(trained: RunDir, tiny: Recipe) -> None:
    """A folder of checkpoints that came from elsewhere."""
    other = config.replace_at(tiny, "seed", 7)
    write_json(trained.recipe, config.to_dict(other))
    with pytest.raises(DataError, match="another recipe"):
        mend(trained, other, pytest.fail)


def test_a_run_of_a_version_with_fewer_fields_is_gone_on_with(trained: RunDir, tiny: Recipe) -> None:
    """Its recipe is the one that is asked for, with the defaults of what is new; its fingerprint is that of its own fields."""
    older = config.to_dict(tiny)
    del older["train"]["spike"]
    write_json(trained.recipe, older)
    saved = checkpoint.load_newest(trained.checkpoints, warn=pytest.fail)
    assert saved is not None
    state = {**saved.state, "recipe": config.fingerprint(older)}
    for step in (7, 8):
        checkpoint.save(trained.checkpoints, step, model=saved.model, optimizer=saved.optimizer, state=state)
    mend(trained, tiny, pytest.fail)


def test_a_checkpoint_that_says_nothing_of_its_run_is_gone_on_with(trained: RunDir, tiny: Recipe) -> None:
    """One of an earlier version."""
    saved = checkpoint.load_newest(trained.checkpoints, warn=pytest.fail)
    assert saved is not None
    state = {k: v for k, v in saved.state.items() if k not in ("recipe", "fit")}
    for step in (7, 8):
        checkpoint.save(trained.checkpoints, step, model=saved.model, optimizer=saved.optimizer, state=state)
    mend(trained, config.replace_at(tiny, "seed", 7), pytest.fail)


def test_a_recipe_of_another_version_is_not_damaged(trained: RunDir, tiny: Recipe) -> None:
    """The error names the key, and the file stays, unless a checkpoint says that the run is this command's."""
    content = json.dumps({**config.to_dict(tiny), "newer": 1}).encode()
    trained.recipe.write_bytes(content)
    shutil.rmtree(trained.checkpoints)
    with pytest.raises(UsageError, match="newer"):
        mend(trained, tiny, pytest.fail)
    assert trained.recipe.read_bytes() == content
    assert not list(trained.root.glob("*.bad-*"))


@pytest.mark.parametrize("name", ["recipe", "fit", "summary", "environment"])
def test_what_the_system_refuses_to_read_is_not_damaged(
    trained: RunDir, tiny: Recipe, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Exit code 5, and the record is as it was."""
    refused: Path = getattr(trained, name)
    read, before = Path.read_bytes, sorted(trained.root.iterdir())

    def refusing(path: Path) -> bytes:
        if path == refused:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return read(path)

    with monkeypatch.context() as patch, pytest.raises(EnvironmentFault, match="Too many open files"):
        patch.setattr(Path, "read_bytes", refusing)
        mend(trained, tiny, pytest.fail)
    assert sorted(trained.root.iterdir()) == before
