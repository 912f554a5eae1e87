"""Bits rot on disks: every damage is noticed, and a run goes on from what is whole, its clock kept."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gpuday.core.clock import read_heartbeat
from gpuday.core.errors import DataError, Interrupted
from gpuday.core.journal import Note, Start, read
from gpuday.core.rundir import RunDir
from gpuday.core.sealed import DamagedFile, digest, seal, seal_inside, unseal, unseal_inside
from gpuday.data.prepared import PreparedData
from gpuday.train import checkpoint

TrainRun = Callable[..., Any]
CHECKPOINTS, PREPARED = 400, 600


def test_every_damage_to_a_checkpoint_is_noticed(rot: ModuleType, tmp_path: Path) -> None:
    """400 of 400: the bad one is set aside with its reason, and the one before is loaded with its clock."""
    noticed = rot.rot_checkpoints(tmp_path, seed=2212, count=CHECKPOINTS)
    assert sum(noticed.values()) == CHECKPOINTS
    assert len(noticed) == 4 * 7 + 5


def test_every_damage_to_prepared_data_is_noticed(rot: ModuleType, tmp_path: Path) -> None:
    """600 of 600, in every file: tokens, documents, indexes, scores, words, tokenizer, drops, manifest; padding too."""
    noticed = rot.rot_prepared(tmp_path, seed=14034, count=PREPARED)
    assert sum(noticed.values()) == PREPARED
    files = {name.rpartition(" ")[0] for name in noticed}
    assert {"train.tok/00001.bin", "train.tok/scores/unigram.bin", "tokenizer.json", "drops.json"} <= files
    assert len(files) == 19


def hostile(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The dictionary with each value, at any depth, gone or of a type and size that nobody expects."""
    strange = (None, -1, 1.5, True, "x", "../../x", [], {}, [None], {"x": 1}, 2**70)
    changed: list[dict[str, Any]] = []
    for key, value in values.items():
        rest = {k: v for k, v in values.items() if k != key}
        changed += [rest, *({**values, key: v} for v in strange if v != value)]
        if isinstance(value, dict):
            changed += [{**values, key: inner} for inner in hostile(value)]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            changed += [{**values, key: [inner, *value[1:]]} for inner in hostile(value[0])]
    return changed


def test_a_sealed_manifest_of_a_checkpoint_that_makes_no_sense_is_damage(rot: ModuleType, tmp_path: Path) -> None:
    """Keys that are missing, values of other types, names that lead out of the folder: set aside, never a traceback."""
    for step in (1, 2):
        rot._save(tmp_path, step)
    path = tmp_path / "step-00000002" / "manifest.json"
    content = unseal(path.read_bytes())
    content["files"]["../../LATEST"] = content["files"]["state.json"]
    versions = [content, *hostile(unseal(path.read_bytes()))]
    assert len(versions) > 100
    for version in versions:
        path.write_bytes(seal(version))
        warnings: list[str] = []
        saved = checkpoint.load_newest(tmp_path, warn=warnings.append)
        assert saved is not None and saved.state["progress"]["step"] == 1, version
        (aside,) = tmp_path.glob("*.bad-*")
        aside.rename(path.parent)
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        _replace_sealed(path, name, b'\x08\x00\x00\x00\x00\x00\x00\x00{"a":5} ')
        saved = checkpoint.load_newest(tmp_path, warn=warnings.append)
        assert saved is not None and saved.state["progress"]["step"] == 1, name
        (aside,) = tmp_path.glob("*.bad-*")
        aside.rename(path.parent)


def _replace_sealed(manifest: Path, name: str, data: bytes) -> None:
    """Another content of a file, with a manifest that vouches for it."""
    content = unseal(manifest.read_bytes()) if b"files" in manifest.read_bytes() else {}
    files = {}
    for file in ("model.safetensors", "optimizer.safetensors", "state.json"):
        if file == name:
            (manifest.parent / file).write_bytes(data)
        raw = (manifest.parent / file).read_bytes()
        files[file] = {"bytes": len(raw), "xxh3_128": digest(raw)}
    manifest.write_bytes(seal({**content, "step": 2, "files": files}))


@pytest.mark.parametrize("name", ["manifest.json", "train.tok/index.json", "heldout.words/index.json"])
def test_a_sealed_index_that_makes_no_sense_is_damage(rot: ModuleType, tmp_path: Path, name: str) -> None:
    """In prepared data too, the file named. What only people read may say anything."""
    folder = rot.prepared(tmp_path, seed=0)
    path = folder / name
    content = unseal_inside(path.read_bytes())
    unread = {"config", "inputs", "libraries", "counts", "tokenizer", "seconds", "bytes", "words_share", "reused"}
    versions = hostile({k: v for k, v in content.items() if k not in unread})
    noticed = 0
    for version in versions:
        path.write_bytes(seal_inside({**{k: v for k, v in content.items() if k in unread}, **version}))
        if name != "manifest.json":
            _vouch(folder, name)
        try:
            PreparedData.open(folder).verify()
        except DamagedFile:
            noticed += 1
    # A free text may be any text, a count of what was skipped any count, and an id any id.
    assert len(versions) - noticed <= 24
    assert noticed > 60


def _vouch(folder: Path, name: str) -> None:
    """Let the manifest vouch for a file as it is now."""
    manifest = unseal_inside((folder / "manifest.json").read_bytes())
    manifest["files"][name] = digest((folder / name).read_bytes())
    (folder / "manifest.json").write_bytes(seal_inside(manifest))


def test_a_run_goes_on_from_the_checkpoint_before_with_its_clock(
    train_run: TrainRun, make_recipe: Callable[..., Any], run: RunDir, at_step: Callable[..., Any], send: Any
) -> None:
    """A flipped bit in the newest weights: told in the journal, the steps after the older one are made again, and what
    they took the first time stays charged."""
    recipe = make_recipe("8steps", train__save_every_seconds=0.0)
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(5, send(signal.SIGTERM)))
    newest, _ = sorted(run.checkpoints.glob("step-*"), reverse=True)
    ledger = json.loads((newest / "state.json").read_bytes())["clock"]["ledger"]
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 16
    (newest / "model.safetensors").write_bytes(data)
    progress, clock = train_run(recipe)
    assert progress.step == 8
    assert clock.used_seconds() > sum(ledger.values())
    notes = [row.message for _, row in read(run.journal) if isinstance(row, Note)]
    assert any("wrong-checksum-model.safetensors" in note for note in notes)
    assert (run.checkpoints / f"{newest.name}.bad-wrong-checksum-model.safetensors").is_dir()


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(
    train_run: TrainRun, make_recipe: Callable[..., Any], run: RunDir, at_step: Callable[..., Any], send: Any
) -> None:
    """Exit code 3 and the folders' names, as often as it is tried, without a charge; one that is brought back from a copy
    is gone on from. Random weights are never trained on a clock that others have used."""
    recipe = make_recipe("8steps", train__save_every_seconds=0.0)
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(5, send(signal.SIGTERM)))
    copy = run.root.with_name("copy")
    shutil.copytree(run.checkpoints / "step-00000004", copy)
    for folder in run.checkpoints.glob("step-*"):
        (folder / "state.json").write_bytes(b"[]")
    charged = read_heartbeat(run.heartbeat)
    for _ in range(2):
        with pytest.raises(
            DataError, match=r"none can be loaded: step-00000004\.bad-.*, step-00000005\.bad-"
        ) as caught:
            train_run(recipe)
        assert caught.value.where == str(run.checkpoints)
        assert read_heartbeat(run.heartbeat)[0] == charged[0]
    shutil.copytree(copy, run.checkpoints / "step-00000004")
    assert train_run(recipe)[0].step == 8
    assert [row.step for _, row in read(run.journal) if isinstance(row, Start)] == [0, 4]
