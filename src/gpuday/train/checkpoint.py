"""Checkpoints that are whole or not there, and whose damage is noticed.

A folder is written beside its final name, every file synced, the manifest with size and xxh3-128 of each file last,
then renamed; `LATEST` moves after that. Reading verifies every checksum, sets a bad folder aside under a name that says
why, and falls back to the one before. Tensors are safetensors, everything else is JSON.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import xxhash
from torch import Tensor

from gpuday.core.rundir import fsync_folder, write_atomic

MODEL, OPTIMIZER, STATE, MANIFEST, LATEST = (
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
    "LATEST",
)
KEEP = 2


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
    """Write `step-<step>` durably under `root`, point LATEST at it, and drop all but the two newest."""
    root.mkdir(parents=True, exist_ok=True)
    final = root / f"step-{step:08d}"
    temporary = root / f".tmp-{step:08d}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    files = {
        MODEL: safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in model.items()}),
        OPTIMIZER: safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in optimizer.items()}),
        STATE: json.dumps(state, allow_nan=False).encode(),
    }
    for name, data in files.items():
        _write_synced(temporary / name, data)
    listing = {name: {"bytes": len(data), "xxh3_128": _hash(data)} for name, data in files.items()}
    _write_synced(temporary / MANIFEST, _sealed({"step": step, "files": listing}))
    fsync_folder(temporary)
    if final.exists():  # the same step again: the old one steps aside until the new one stands
        aside = root / f".old-{step:08d}-{os.getpid()}"
        os.replace(final, aside)
        os.replace(temporary, final)
        shutil.rmtree(aside)
    else:
        os.replace(temporary, final)
    fsync_folder(root)
    write_atomic(root / LATEST, _sealed({"folder": final.name}))
    for old in _folders(root)[KEEP:]:
        shutil.rmtree(old)
    return final


def load_newest(root: Path, *, warn: Callable[[str], None]) -> Saved | None:
    """The newest checkpoint whose every checksum holds, or None; for the one process that holds the run's lock.

    Bad ones are renamed and reported through `warn`; what a kill left half-written is cleared away.
    """
    for stale in root.glob(".tmp-*"):
        shutil.rmtree(stale)  # a save that a kill cut short
    for old in root.glob(".old-*"):  # a kill between two renames
        _restore(old, root)
    _check_pointer(root, warn)
    for folder in _folders(root):
        try:
            return _load(folder)
        except Damaged as reason:
            aside = _free_name(root / f"{folder.name}.bad-{reason}")
            os.replace(folder, aside)
            warn(f"checkpoint {folder.name} is damaged ({reason}); set aside as {aside.name}, trying the one before")
    return None


def _restore(old: Path, root: Path) -> None:
    final = root / f"step-{old.name.split('-')[1]}"
    if final.exists():
        shutil.rmtree(old)
    else:
        os.replace(old, final)


def _check_pointer(root: Path, warn: Callable[[str], None]) -> None:
    """Report a LATEST that is damaged. It is for readers of the folder: resuming takes the newest whole checkpoint,
    which may be newer than LATEST when a kill came between the two renames."""
    try:
        _unsealed((root / LATEST).read_bytes())
    except FileNotFoundError:
        return
    except (Damaged, IsADirectoryError) as reason:
        warn(f"LATEST is damaged ({reason}); taking the newest checkpoint")


def _folders(root: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted((f for f in root.glob("step-*") if f.is_dir() and "." not in f.name), reverse=True)


def _load(folder: Path) -> Saved:
    try:
        manifest = _unsealed((folder / MANIFEST).read_bytes())
        files = {name: (folder / name).read_bytes() for name in (MODEL, OPTIMIZER, STATE)}
    except FileNotFoundError as error:
        raise Damaged(f"missing-{Path(str(error.filename)).name}") from error
    except OSError as error:
        raise Damaged(f"unreadable-{error.errno}") from error
    if manifest.get("step") != int(folder.name.partition("-")[2]):
        raise Damaged("wrong-step")
    for name, data in files.items():
        expected = manifest["files"][name]
        if len(data) != expected["bytes"]:
            raise Damaged(f"wrong-size-{name}")
        if _hash(data) != expected["xxh3_128"]:
            raise Damaged(f"wrong-checksum-{name}")
    tensors = [safetensors.torch.load(files[name]) for name in (MODEL, OPTIMIZER)]
    return Saved(folder, tensors[0], tensors[1], json.loads(files[STATE]))


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


def _hash(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def _sealed(content: dict[str, Any]) -> bytes:
    """JSON that carries the checksum of its own content."""
    text = json.dumps(content, sort_keys=True)
    return json.dumps({"content": content, "xxh3_128": _hash(text.encode())}, sort_keys=True).encode()


def _unsealed(data: bytes) -> dict[str, Any]:
    try:
        whole = json.loads(data)
        content = whole["content"]
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged("unreadable-manifest") from error
    if not isinstance(content, dict) or data != _sealed(content):
        raise Damaged("wrong-checksum-manifest")
    return dict(content)


def _free_name(path: Path) -> Path:
    return next(p for n in range(1000) if not (p := path.with_name(path.name + (f"-{n}" if n else ""))).exists())
