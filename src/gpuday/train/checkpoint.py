"""Checkpoints that are whole or not there, and whose damage is noticed.

A folder is written beside its final name, every file synced, the manifest with size and xxh3-128 of each file last,
then renamed; `LATEST` moves after that. Reading verifies every checksum, sets a bad folder aside under a name that says
why, and falls back to the one before. What the system does not let us read is not damaged, and keeps its place. Tensors
are safetensors, everything else is JSON.

Of two checkpoints the one with the larger `progress.branch` in its state is the newer, and of one branch the one of the
larger step: a run that went back is at a smaller step than before, on a new branch.
"""

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from gpuday.core.errors import EnvironmentFault
from gpuday.core.rundir import fsync_folder, set_aside, write_atomic
from gpuday.core.sealed import digest, seal
from gpuday.train.saved_folder import (
    MANIFEST,
    MODEL,
    OPTIMIZER,
    STATE,
    Damaged,
    Saved,
    age,
    is_called_sound,
    is_whole,
    peek,
    read,
    step_of,
    unsealed,
)

LATEST = "LATEST"
KEEP = 2
_FOLDER = re.compile(r"step-(\d{8,})")


def save(
    root: Path,
    step: int,
    *,
    model: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
    warn: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write `step-<step>` durably under `root`, point LATEST at it, and drop all but the two newest and a sound one.

    Raises OSError where the disk does not take it: nothing half-written is left, and what was there is whole. Once the
    folder stands under its name it is saved, whatever then fails: `warn` hears of it.
    """
    root.mkdir(parents=True, exist_ok=True)
    final = root / f"step-{step:08d}"
    temporary = root / f".tmp-{step:08d}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    files = {
        MODEL: tensor_bytes({k: v.detach().cpu().contiguous() for k, v in model.items()}),
        OPTIMIZER: tensor_bytes({k: v.detach().cpu().contiguous() for k, v in optimizer.items()}),
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
    try:
        fsync_folder(root)
    except OSError as error:  # the new name may not outlive a power cut: what was there before stays beside it
        warn(f"the folder of the checkpoints cannot be synced ({error.strerror}); {final.name} is written")
        return final
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)  # else the next load's
    try:
        write_atomic(root / LATEST, seal({"folder": final.name}))
    except OSError as error:
        warn(
            f"{LATEST} cannot be written ({error.strerror}); it is for readers of the folder, and {final.name} is whole"
        )
    _prune(root, final)
    return final


def _prune(root: Path, final: Path) -> None:
    """Remove all but the one that was just saved, the newest, and a sound one where those are doubtful."""
    folders = _folders(root)
    kept = {final, *folders[:KEEP]}
    if not any(map(is_called_sound, kept)):
        kept.update([folder for folder in folders if is_called_sound(folder)][:1])
    for old in folders:
        if old not in kept:
            with contextlib.suppress(OSError):  # the new one stands; what could not be removed is the next save's
                _discard(old)


def _move(temporary: Path, final: Path) -> Path | None:
    """Give a finished folder its name. The same step again: the old one steps aside until the new one stands, and its
    place is returned."""
    if not final.exists():
        os.replace(temporary, final)
        return None
    aside = _unused(final.with_name(f".old-{final.name.partition('-')[2]}-{os.getpid()}"))
    os.replace(final, aside)
    try:
        os.replace(temporary, final)
    except OSError:
        os.replace(aside, final)
        raise
    return aside


def make_room(root: Path) -> str:
    """Remove what can best be spared, and return its name: what was set aside as damaged, or else the oldest checkpoint,
    where the newest is whole and the newest sound one is, which stays. Nothing, and "", where nothing can be spared."""
    there = sorted(root.glob("step-*.bad-*"))
    if not there:
        folders = _folders(root)
        sound = [folder for folder in folders if is_called_sound(folder)]
        needed = [*sound[:1], *folders[:1]][:1]
        if len(folders) > 1 and all(map(is_whole, {*needed, folders[0]})):
            there = [folder for folder in reversed(folders) if folder not in needed]
    if not there:
        return ""
    _discard(there[0])
    return there[0].name


def load_newest(
    root: Path, *, warn: Callable[[str], None], fits: Callable[[Saved], bool] = lambda _: True
) -> Saved | None:
    """The newest checkpoint that `fits` and whose every checksum holds, or None; for the one process that holds the
    run's lock. `fits` may raise Damaged.

    Bad ones are renamed and reported through `warn`; what a kill left half-written is cleared away. One that the disk
    fails to read is passed over and keeps its name. Raises EnvironmentFault where the system refuses to read one, for
    want of rights, handles or memory, or where only those that the disk fails to read are left.
    """
    for stale in [*root.glob(".tmp-*"), *root.glob(f".{LATEST}.*.tmp")]:  # a save or a removal that a kill cut short
        with contextlib.suppress(OSError):  # on a disk that is read-only by now it harms nobody
            _remove(stale)
    for old in root.glob(".old-*"):  # a kill between two renames
        _restore(old, root)
    _check_pointer(root, warn)
    unread: OSError | None = None
    folders = _folders(root)
    for folder, older in itertools.zip_longest(folders, folders[1:]):
        before = f"trying the one before{_made_again(folder, older)}"
        try:
            saved = read(folder)
            if fits(saved):
                return replace(saved, passed_over=unread is not None)
        except Damaged as reason:
            try:
                where = f"set aside as {set_aside(folder, str(reason)).name}"
            except OSError as error:
                where = f"it could not be set aside: {error.strerror}"
            warn(f"checkpoint {folder.name} is damaged ({reason}); {where}, {before}")
        except OSError as error:
            if error.errno != errno.EIO:
                raise _refused(folder, error) from error
            unread = error
            warn(f"checkpoint {folder.name} cannot be read ({error.strerror}); it stays, {before}")
    if unread is not None:
        raise _refused(root, unread) from unread
    return None


def _made_again(folder: Path, older: Path | None) -> str:
    """What going on from an older one costs. It may be of a larger step, which the run has gone back from."""
    many = 0 if older is None else step_of(folder) - step_of(older)
    return (
        f", after which {many} step{'' if many == 1 else 's'} {'is' if many == 1 else 'are'} made again"
        if many > 0
        else ""
    )


def _refused(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path.name} cannot be read: {error.strerror}",
        where=str(path),
        fix="nothing was changed: mend what refuses it, then give the same command again; where the disk has lost it for "
        "good, move the folder away, and the one before is taken",
    )


def load(root: Path, step: int) -> Saved:
    """The checkpoint of a step, and nothing changed on the disk: for ranks that are told which one to take. Raises
    Damaged or OSError."""
    return read(root / f"step-{step:08d}")


def newest_state(root: Path) -> dict[str, Any]:
    """The state of the newest checkpoint that still tells it, without its tensors; empty where there is none."""
    return next((state for folder in _folders(root) if (state := peek(folder))), {})


def drop_after(root: Path, step: int) -> list[str]:
    """Remove the checkpoints of later steps: the run has gone back. Returns the names of those that could not be removed:
    they harm nobody as soon as a checkpoint of the new branch is written."""
    left = []
    for folder in _folders(root):
        if step_of(folder) > step:
            try:
                _discard(folder)
            except OSError:
                left.append(folder.name)
    return left


def _discard(folder: Path) -> None:
    """Remove a checkpoint; a kill within the removal leaves nothing that looks like one."""
    gone = _unused(folder.with_name(f".tmp-gone-{folder.name}-{os.getpid()}"))
    os.replace(folder, gone)
    shutil.rmtree(gone)


def _unused(path: Path) -> Path:
    """The path, numbered where one is there that the disk did not let go before."""
    return next(p for n in range(1000) if not (p := path.with_name(f"{path.name}-{n}")).exists())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _restore(old: Path, root: Path) -> None:
    final = root / f"step-{old.name.split('-')[1]}"
    with contextlib.suppress(OSError):  # on a disk that is read-only by now the others are still there
        if final.exists():
            _remove(old)
        else:
            os.replace(old, final)


def _check_pointer(root: Path, warn: Callable[[str], None]) -> None:
    """Report a LATEST that is damaged. It is for readers of the folder: resuming takes the newest whole checkpoint,
    which may be newer than LATEST when a kill came between the two renames."""
    try:
        unsealed((root / LATEST).read_bytes())
    except FileNotFoundError:
        return
    except (Damaged, OSError) as reason:
        warn(f"LATEST is damaged ({reason}); taking the newest checkpoint")


def steps(root: Path) -> list[int]:
    """Steps of the checkpoints that are there, newest first; their checksums are not looked at."""
    return [step_of(folder) for folder in _folders(root)]


def _folders(root: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    found = (f for f in root.glob("step-*") if _FOLDER.fullmatch(f.name) and f.is_dir())
    return sorted(found, key=age, reverse=True)


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
