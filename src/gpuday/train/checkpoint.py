"""Checkpoints that are whole or not there, and whose damage is noticed.

A folder is written beside its final name, every file synced, the manifest with size and xxh3-128 of each file last,
then renamed; `LATEST` moves after that. Reading verifies every checksum, sets a bad folder aside under a name that says
why, and falls back to the one before. Tensors are safetensors, everything else is JSON.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from gpuday.core.rundir import fsync_folder, write_atomic
from gpuday.core.sealed import Broken, digest, seal, unseal

MODEL, OPTIMIZER, STATE, MANIFEST, LATEST = (
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
    "LATEST",
)
KEEP = 2
_FOLDER = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it was read: tensors on the CPU, and JSON values."""

    folder: Path
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


class Damaged(Exception):
    """A checkpoint that must not be used; the message is the reason, fit for a folder's name."""


def save(
    root: Path, step: int, *, model: dict[str, Tensor], optimizer: dict[str, Tensor], state: dict[str, Any]
) -> Path:
    """Write `step-<step>` durably under `root`, point LATEST at it, and drop all but the two newest.

    Raises OSError where the disk does not take it: nothing half-written is left, and what was there is whole.
    """
    root.mkdir(parents=True, exist_ok=True)
    final = root / f"step-{step:08d}"
    temporary = root / f".tmp-{step:08d}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    files = {
        MODEL: safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in model.items()}),
        OPTIMIZER: safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in optimizer.items()}),
        STATE: json.dumps(state, allow_nan=False).encode(),
    }
    listing = {name: {"bytes": len(data), "xxh3_128": digest(data)} for name, data in files.items()}
    try:
        temporary.mkdir()
        for name, data in files.items():
            _write_synced(temporary / name, data)
        _write_synced(temporary / MANIFEST, seal({"step": step, "files": listing}))
        fsync_folder(temporary)
        aside = _move(temporary, final)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_folder(root)
    if aside is not None:
        shutil.rmtree(aside)
    write_atomic(root / LATEST, seal({"folder": final.name}))
    for old in _folders(root)[KEEP:]:
        with contextlib.suppress(OSError):  # the new one stands; what could not be removed is the next save's
            _discard(old)
    return final


def _move(temporary: Path, final: Path) -> Path | None:
    """Give a finished folder its name. The same step again: the old one steps aside until the new one stands, and its
    place is returned."""
    if not final.exists():
        os.replace(temporary, final)
        return None
    aside = final.with_name(f".old-{final.name.partition('-')[2]}-{os.getpid()}")
    os.replace(final, aside)
    try:
        os.replace(temporary, final)
    except OSError:
        os.replace(aside, final)
        raise
    return aside


def make_room(root: Path) -> str:
    """Remove what can best be spared, and return its name: what was set aside as damaged, or else the oldest checkpoint
    where the newest is whole. Nothing, and "", where only one is left."""
    there = sorted(root.glob("step-*.bad-*")) or _folders(root)[:0:-1]
    if not there or (".bad-" not in there[0].name and not _is_whole(_folders(root)[0])):
        return ""
    _discard(there[0])
    return there[0].name


def _is_whole(folder: Path) -> bool:
    try:
        _verified(folder)
    except Damaged:
        return False
    return True


def load_newest(
    root: Path, *, warn: Callable[[str], None], fits: Callable[[Saved], bool] = lambda _: True
) -> Saved | None:
    """The newest checkpoint that `fits` and whose every checksum holds, or None; for the one process that holds the
    run's lock.

    Bad ones are renamed and reported through `warn`; what a kill left half-written is cleared away.
    """
    for stale in [*root.glob(".tmp-*"), *root.glob(f".{LATEST}.*.tmp")]:  # a save or a removal that a kill cut short
        with contextlib.suppress(OSError):  # on a disk that is read-only by now it harms nobody
            _remove(stale)
    for old in root.glob(".old-*"):  # a kill between two renames
        _restore(old, root)
    _check_pointer(root, warn)
    for folder in _folders(root):
        try:
            saved = _load(folder)
            if fits(saved):
                return saved
        except Damaged as reason:
            aside = _free_name(root / f"{folder.name}.bad-{reason}")
            try:
                os.replace(folder, aside)
                where = f"set aside as {aside.name}"
            except OSError as error:
                where = f"it could not be set aside: {error.strerror}"
            warn(f"checkpoint {folder.name} is damaged ({reason}); {where}, trying the one before")
    return None


def drop_after(root: Path, step: int) -> None:
    """Remove the checkpoints of later steps: the run has gone back, and a resume takes the one of the largest step."""
    for folder in _folders(root):
        if _step_of(folder) > step:
            _discard(folder)


def _discard(folder: Path) -> None:
    """Remove a checkpoint; a kill within the removal leaves nothing that looks like one."""
    gone = folder.with_name(f".tmp-gone-{folder.name}-{os.getpid()}")
    os.replace(folder, gone)
    shutil.rmtree(gone)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _restore(old: Path, root: Path) -> None:
    final = root / f"step-{old.name.split('-')[1]}"
    if final.exists():
        _remove(old)
    else:
        os.replace(old, final)


def _check_pointer(root: Path, warn: Callable[[str], None]) -> None:
    """Report a LATEST that is damaged. It is for readers of the folder: resuming takes the newest whole checkpoint,
    which may be newer than LATEST when a kill came between the two renames."""
    try:
        _unsealed((root / LATEST).read_bytes())
    except FileNotFoundError:
        return
    except (Damaged, OSError) as reason:
        warn(f"LATEST is damaged ({reason}); taking the newest checkpoint")


def steps(root: Path) -> list[int]:
    """Steps of the checkpoints that are there, newest first; their checksums are not looked at."""
    return [_step_of(folder) for folder in _folders(root)]


def _folders(root: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    found = (f for f in root.glob("step-*") if _FOLDER.fullmatch(f.name) and f.is_dir())
    return sorted(found, key=_step_of, reverse=True)


def _step_of(folder: Path) -> int:
    return int(folder.name.partition("-")[2])


def _load(folder: Path) -> Saved:
    files = _verified(folder)
    try:
        model, optimizer = (safetensors.torch.load(files[name]) for name in (MODEL, OPTIMIZER))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Damaged("foreign-tensors") from error
    try:
        state = json.loads(files[STATE])
    except (ValueError, RecursionError) as error:
        raise Damaged("foreign-state") from error
    if not isinstance(state, dict):
        raise Damaged("foreign-state")
    return Saved(folder, model, optimizer, state)


def _verified(folder: Path) -> dict[str, bytes]:
    """Content of the three files by name. Raises Damaged unless they are what the folder's own manifest says; names,
    sizes and checksums are looked for where they belong, whatever else a manifest may say."""
    files: dict[str, bytes] = {}
    try:
        manifest = _unsealed((folder / MANIFEST).read_bytes())
        listing = manifest.get("files")
        if manifest.get("step") != _step_of(folder):
            raise Damaged("wrong-step")
        if not isinstance(listing, dict) or listing.keys() != {MODEL, OPTIMIZER, STATE}:
            raise Damaged("foreign-manifest")
        for name, expected in listing.items():
            if not isinstance(expected, dict):
                raise Damaged("foreign-manifest")
            if (folder / name).stat().st_size != expected.get("bytes"):
                raise Damaged(f"wrong-size-{name}")
            files[name] = (folder / name).read_bytes()
            if digest(files[name]) != expected.get("xxh3_128"):
                raise Damaged(f"wrong-checksum-{name}")
    except FileNotFoundError as error:
        raise Damaged(f"missing-{Path(str(error.filename)).name}") from error
    except OSError as error:
        raise Damaged(f"unreadable-{error.errno}") from error
    return files


def load_weights(parameters: dict[str, torch.nn.Parameter], saved: dict[str, Tensor]) -> None:
    """Copy saved tensors into parameters of the same names. Raises KeyError or RuntimeError when they do not match."""
    if missing := parameters.keys() ^ saved.keys():
        raise KeyError(f"weights and model differ in {sorted(missing)[:5]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != saved[name].shape:  # copy_ would broadcast
                raise RuntimeError(f"{name} is {tuple(parameter.shape)}, saved is {tuple(saved[name].shape)}")
            parameter.copy_(saved[name])


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _unsealed(data: bytes) -> dict[str, Any]:
    try:
        return unseal(data)
    except Broken as error:
        raise Damaged("wrong-checksum-manifest") from error


def _free_name(path: Path) -> Path:
    return next(p for n in range(1000) if not (p := path.with_name(path.name + (f"-{n}" if n else ""))).exists())
