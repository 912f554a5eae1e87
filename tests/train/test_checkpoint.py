"""Checkpoints: whole or not there, every kind of damage noticed, and always one to fall back to."""

import builtins
import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gpuday.train import checkpoint
from gpuday.train.checkpoint import Saved

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test may catch it and go on."""


def weights(value: float) -> dict[str, Tensor]:
    return {"a": torch.full((3, 5), value), "b.c": torch.tensor([value, -0.0, float("inf")]), "n": torch.tensor(7)}


def save(root: Path, step: int) -> Path:
    """A checkpoint whose every part tells its step."""
    moments = {"m": torch.full((2,), float(step)).bfloat16(), "steps": torch.tensor(float(step))}
    return checkpoint.save(root, step, model=weights(step), optimizer=moments, state={"progress": {"step": step}})


def load(root: Path) -> tuple[Saved | None, list[str]]:
    warnings: list[str] = []
    return checkpoint.load_newest(root, warn=warnings.append), warnings


def step_of(saved: Saved | None) -> int:
    """The step that all three parts agree on."""
    assert saved is not None
    steps = {int(saved.model["a"][0, 0]), int(saved.optimizer["steps"]), saved.state["progress"]["step"]}
    assert len(steps) == 1
    return steps.pop()


def names(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir())


def test_what_was_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    """Shapes, dtypes, signed zeros, infinities and NaN; state as JSON values, long floats included."""
    model = {**weights(1.5), "half": torch.tensor([1e-7, 3.0]).bfloat16(), "nan": torch.tensor([float("nan")])}
    state = {"progress": {"step": 3, "before": None}, "clock": {"ledger": {"step": 0.1 + 0.2}}}
    folder = checkpoint.save(tmp_path, 3, model=model, optimizer={"m": torch.arange(4.0)}, state=state)
    saved, warnings = load(tmp_path)
    assert saved is not None and saved.folder == folder == tmp_path / "step-00000003"
    assert saved.state == state
    assert saved.model.keys() == model.keys()
    for name, tensor in model.items():
        assert saved.model[name].dtype == tensor.dtype and saved.model[name].shape == tensor.shape
        assert saved.model[name].view(torch.uint8).tolist() == tensor.view(torch.uint8).tolist() if tensor.dim() else 1
    assert saved.optimizer["m"].tolist() == [0, 1, 2, 3]
    assert warnings == []


def test_a_folder_holds_safetensors_and_json_and_nothing_else(tmp_path: Path) -> None:
    """Other libraries read every file; none of them is a pickle (a zip or a 0x80 opcode)."""
    folder = save(tmp_path, 1)
    assert names(folder) == sorted(FILES)
    for name in FILES[:2]:
        assert load_file(folder / name)
        assert (folder / name).read_bytes()[:1] != b"\x80" and (folder / name).read_bytes()[:2] != b"PK"
    for path in (folder / "state.json", folder / "manifest.json", tmp_path / "LATEST"):
        assert json.loads(path.read_bytes())
    assert json.loads((tmp_path / "LATEST").read_bytes())["content"] == {"folder": "step-00000001"}


def test_views_and_tensors_of_a_graph_are_saved_as_plain_values(tmp_path: Path) -> None:
    """Transposed, sliced and grad-requiring tensors come back with their values."""
    base = torch.arange(12.0).view(3, 4).requires_grad_()
    checkpoint.save(tmp_path, 1, model={"t": base.mT, "s": base[:, 1]}, optimizer={}, state={})
    saved, _ = load(tmp_path)
    assert saved is not None
    assert saved.model["t"].tolist() == base.mT.tolist() and saved.model["s"].tolist() == [1, 5, 9]


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    """Older ones make room, by step and not by name's length or time."""
    for step in (0, 9, 10, 100, 12_345):
        save(tmp_path, step)
    assert names(tmp_path) == ["LATEST", "step-00000100", "step-00012345"]
    assert step_of(load(tmp_path)[0]) == 12_345


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    """A run that begins is no fault: None, without a warning."""
    assert load(tmp_path) == (None, [])
    assert load(tmp_path / "none") == (None, [])


def flip(position: float, bit: int) -> Callable[[Path], None]:
    """One bit of the byte at that share of the file."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[min(int(position * len(data)), len(data) - 1)] ^= 1 << bit
        path.write_bytes(bytes(data))

    return damage


def cut(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return damage


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\x00")


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    **{f"bit {bit} flipped at {at:.0%}": flip(at, bit) for at in (0.0, 0.01, 0.3, 0.5, 0.77, 1.0) for bit in (0, 6)},
    **{f"cut to {share:.0%}": cut(share) for share in (0.0, 0.4, 0.99)},
    "one byte longer": grow,
    "missing": Path.unlink,
    "a folder": as_folder,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_set_aside_with_its_reason_and_the_one_before_is_taken(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    """Whatever happens to whichever file: noticed, renamed, said once, and the run goes on from the older one."""
    save(tmp_path, 1)
    damage(save(tmp_path, 2) / name)
    saved, warnings = load(tmp_path)
    assert step_of(saved) == 1
    bad = [n for n in names(tmp_path) if ".bad-" in n]
    assert len(bad) == 1 and re.fullmatch(r"step-00000002\.bad-[a-z]+-[a-z0-9.]+(-[a-z.]+)?", bad[0])
    assert len(warnings) == 1 and "step-00000002 is damaged" in warnings[0] and bad[0] in warnings[0]
    assert step_of(load(tmp_path)[0]) == 1
    assert load(tmp_path)[1] == []


def test_two_damaged_checkpoints_of_one_step_are_both_kept_for_inspection(tmp_path: Path) -> None:
    """Setting aside never overwrites what was set aside before."""
    for _ in range(2):
        flip(0.5, 0)(save(tmp_path, 4) / "state.json")
        assert load(tmp_path)[0] is None
    assert len([n for n in names(tmp_path) if "bad" in n]) == 2


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_pointer_costs_nothing(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """LATEST only points: without it the newest good checkpoint is found; what is wrong with it is said, if it is there."""
    save(tmp_path, 1)
    save(tmp_path, 2)
    damage(tmp_path / "LATEST")
    saved, warnings = load(tmp_path)
    assert step_of(saved) == 2
    assert all("LATEST is damaged" in w for w in warnings)
    assert len(warnings) == (1 if (tmp_path / "LATEST").exists() else 0)


def test_a_checkpoint_newer_than_the_pointer_is_taken(tmp_path: Path) -> None:
    """A kill between the two renames leaves a whole folder that LATEST does not know."""
    save(tmp_path, 1)
    pointer = (tmp_path / "LATEST").read_bytes()
    save(tmp_path, 2)
    (tmp_path / "LATEST").write_bytes(pointer)
    assert step_of(load(tmp_path)[0]) == 2


def fail_at(monkeypatch: pytest.MonkeyPatch, count: int, kind: type[BaseException]) -> list[str]:
    """Let the `count`-th call of a writing function raise before it acts; returns the calls that were made."""
    calls: list[str] = []

    def wrap(module: Any, name: str, writes: Callable[..., bool] = lambda *_: True) -> None:
        real = getattr(module, name)

        def call(*args: Any, **options: Any) -> Any:
            if writes(*args):
                calls.append(name)
                if len(calls) == count:
                    raise kind("killed here")
            return real(*args, **options)

        monkeypatch.setattr(module, name, call)

    wrap(os, "replace")
    wrap(os, "fsync")
    wrap(os, "mkdir")
    wrap(shutil, "rmtree")
    wrap(builtins, "open", lambda path, mode="r", *_: "w" in mode)
    return calls


def calls_of_a_save(monkeypatch: pytest.MonkeyPatch, root: Path, step: int) -> int:
    with monkeypatch.context() as patch:
        calls = fail_at(patch, 0, Killed)
        save(root, step)
    return len(calls)


@pytest.mark.parametrize("kind", [Killed, OSError])
def test_a_save_that_ends_at_any_call_leaves_a_loadable_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """A kill, or a full disk, at each call that changes the disk: the old or the new one is there, whole, unwarned."""
    for step in (0, 1):
        save(tmp_path / "count", step)
    count = calls_of_a_save(monkeypatch, tmp_path / "count", 2)
    assert count > 10
    seen = set()
    for call in range(1, count + 1):
        root = tmp_path / f"{kind.__name__}-{call}"
        save(root, 0)
        save(root, 1)
        # What says that a folder is there already, or that there is none to remove, is no reason to give up.
        with monkeypatch.context() as patch, contextlib.suppress(kind):
            fail_at(patch, call, kind)
            save(root, 2)
        saved, warnings = load(root)
        seen.add(step_of(saved))
        assert warnings == []
        save(root, 3)
        assert step_of(load(root)[0]) == 3
        assert [n for n in names(root) if n.startswith(".tmp")] == []
    assert seen == {1, 2}


def test_the_first_save_that_ends_at_any_call_leaves_none_or_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to fall back to yet: then there is no checkpoint, never half of one."""
    count = calls_of_a_save(monkeypatch, tmp_path / "count", 1)
    for call in range(1, count + 1):
        root = tmp_path / str(call)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            fail_at(patch, call, Killed)
            save(root, 1)
        saved, warnings = load(root)
        assert saved is None or step_of(saved) == 1
        assert warnings == []


@pytest.mark.parametrize("before", [(5,), (3, 5)], ids=["the only one", "one of two"])
def test_saving_the_same_step_again_never_leaves_less_than_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: tuple[int, ...]
) -> None:
    """The final save may meet an interrupted run's checkpoint of the same step: a kill in it must not lose that step."""
    for step in before:
        save(tmp_path / "count", step)
    count = calls_of_a_save(monkeypatch, tmp_path / "count", 5)
    lost = []
    for call in range(1, count + 1):
        root = tmp_path / str(call)
        for step in before:
            save(root, step)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            fail_at(patch, call, Killed)
            save(root, 5)
        saved, _ = load(root)
        if saved is None or step_of(saved) != 5:
            lost.append(call)
    assert lost == []


def test_a_save_survives_what_an_earlier_process_left_half_written(tmp_path: Path) -> None:
    """A stale temporary folder is neither loaded nor in the way, and is gone after the next load."""
    save(tmp_path, 1)
    stale = tmp_path / f".tmp-{2:08d}-{os.getpid()}"
    stale.mkdir()
    (stale / "model.safetensors").write_bytes(b"half")
    save(tmp_path, 2)
    other = tmp_path / ".tmp-00000009-1"
    other.mkdir()
    assert step_of(load(tmp_path)[0]) == 2
    assert names(tmp_path) == ["LATEST", "step-00000001", "step-00000002"]


def test_state_with_a_number_that_json_lacks_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    """A NaN in the state is a bug of the caller, noticed before anything is replaced."""
    save(tmp_path, 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        checkpoint.save(tmp_path, 2, model={}, optimizer={}, state={"x": float("nan")})
    assert step_of(load(tmp_path)[0]) == 1


def test_weights_are_copied_into_parameters_of_the_same_names() -> None:
    """In place: who holds the parameter sees the new values."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    checkpoint.load_weights({"a": parameter}, {"a": torch.tensor([1.0, 2.0])})
    assert parameter.tolist() == [1, 2]
    assert parameter.requires_grad


@pytest.mark.parametrize("saved", [{}, {"b": torch.zeros(2)}, {"a": torch.zeros(2), "b": torch.zeros(2)}])
def test_weights_of_another_model_are_refused(saved: dict[str, Tensor]) -> None:
    """Neither a missing nor a surplus tensor is passed over."""
    with pytest.raises(KeyError, match="differ"):
        checkpoint.load_weights({"a": torch.nn.Parameter(torch.zeros(2))}, saved)


def test_weights_of_another_shape_are_refused() -> None:
    """Never broadcast into place, which torch's own copy would do with a row."""
    with pytest.raises(RuntimeError):
        checkpoint.load_weights({"a": torch.nn.Parameter(torch.zeros(2))}, {"a": torch.zeros(3)})
    parameter = torch.nn.Parameter(torch.zeros(4, 2))
    with pytest.raises(RuntimeError):
        checkpoint.load_weights({"a": parameter}, {"a": torch.ones(2)})


def test_the_newest_that_fits_is_taken_and_the_others_stay(tmp_path: Path) -> None:
    """What the caller does not want is not damaged: no warning, and its folder is not renamed."""
    for step in (3, 5):
        save(tmp_path, step)
    warnings: list[str] = []
    saved = checkpoint.load_newest(tmp_path, warn=warnings.append, fits=lambda s: s.state["progress"]["step"] < 5)
    assert saved is not None and saved.folder.name == "step-00000003"
    assert checkpoint.load_newest(tmp_path, warn=warnings.append, fits=lambda _: False) is None
    assert warnings == []
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00000003", "step-00000005"]


def test_later_checkpoints_are_dropped_where_a_run_has_gone_back(tmp_path: Path) -> None:
    """Else a resume would take the one of the largest step; the one that it went back to stays, and what a kill leaves
    of the removal is no checkpoint."""
    for step in (3, 5):
        save(tmp_path, step)
    checkpoint.drop_after(tmp_path, 5)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00000003", "step-00000005"]
    checkpoint.drop_after(tmp_path, 3)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["step-00000003"]


def test_a_kill_while_later_checkpoints_are_dropped_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the removal of the folder: the next start takes the other one without a warning."""

    def killed(*_: object, **__: object) -> None:
        raise Killed

    for step in (3, 5):
        save(tmp_path, step)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shutil, "rmtree", killed)
        checkpoint.drop_after(tmp_path, 3)
    saved, warnings = load(tmp_path)
    assert saved is not None and saved.folder.name == "step-00000003"
    assert [w for w in warnings if "damaged (missing" in w or "set aside" in w] == []
