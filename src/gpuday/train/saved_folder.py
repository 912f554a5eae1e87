"""What one checkpoint's folder holds: three files and the manifest that vouches for them. Read here, written nowhere.

Everything is looked for where it belongs, whatever a manifest may say of names. What the system does not let us look at
raises OSError: that says nothing of what is there.
"""

import errno
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from gpuday.core.sealed import Broken, digest, is_count, unseal

MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
NO_FILE = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP)  # something else has its name


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it was read: tensors on the CPU, and JSON values."""

    folder: Path
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    passed_over: bool = False
    """Whether a newer one that could not be read is still in its place."""


class Damaged(Exception):
    """A checkpoint that must not be used; the message is the reason, fit for a folder's name."""


def read(folder: Path) -> Saved:
    """All that it holds. Raises Damaged unless every checksum holds and the files are what they are called."""
    files = _verified(folder)
    try:
        model, optimizer = (load_tensors(files[name]) for name in (MODEL, OPTIMIZER))
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Damaged("foreign-tensors") from error
    return Saved(folder, model, optimizer, _state(files[STATE]))


def peek(folder: Path) -> dict[str, Any]:
    """Its state, without its tensors; empty where that cannot be told."""
    try:
        return _state(_file(folder, STATE, _listing(folder)))
    except (Damaged, OSError):
        return {}


def step_of(folder: Path) -> int:
    """The step that its name says."""
    return int(folder.name.partition("-")[2])


def age(folder: Path) -> tuple[int, int]:
    """Its branch and its step: the larger, the newer."""
    progress = peek(folder).get("progress")
    branch = progress.get("branch") if isinstance(progress, dict) else 0
    return branch if is_count(branch) else 0, step_of(folder)  # type: ignore[return-value]


def is_whole(folder: Path) -> bool:
    """Whether every checksum holds."""
    try:
        _verified(folder)
    except (Damaged, OSError):
        return False
    return True


def is_called_sound(folder: Path) -> bool:
    """Whether it says of itself that the run may go back to it; its tensors are not looked at."""
    state = peek(folder)
    return bool(state) and state.get("sound", True) is True


def unsealed(data: bytes) -> dict[str, Any]:
    """The content of a manifest or a pointer. Raises Damaged when a single bit differs."""
    try:
        return unseal(data)
    except Broken as error:
        raise Damaged("wrong-checksum-manifest") from error


def _verified(folder: Path) -> dict[str, bytes]:
    """Content of the three files by name. Raises Damaged unless they are what the folder's own manifest says."""
    listing = _listing(folder)
    return {name: _file(folder, name, listing) for name in listing}


def _listing(folder: Path) -> dict[str, Any]:
    manifest = unsealed(_content(folder / MANIFEST))
    listing = manifest.get("files")
    if manifest.get("step") != step_of(folder):
        raise Damaged("wrong-step")
    if not isinstance(listing, dict) or listing.keys() != {MODEL, OPTIMIZER, STATE}:
        raise Damaged("foreign-manifest")
    return listing


def _file(folder: Path, name: str, listing: dict[str, Any]) -> bytes:
    expected = listing[name]
    if not isinstance(expected, dict):
        raise Damaged("foreign-manifest")
    data = _content(folder / name, expected.get("bytes"))
    if digest(data) != expected.get("xxh3_128"):
        raise Damaged(f"wrong-checksum-{name}")
    return data


def _state(data: bytes) -> dict[str, Any]:
    try:
        state = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Damaged("foreign-state") from error
    if not isinstance(state, dict):
        raise Damaged("foreign-state")
    return state


def _content(path: Path, *sizes: Any) -> bytes:
    """The content of a file of one of these sizes, of any where none is given. Raises Damaged where it is no such file."""
    try:
        if sizes and path.stat().st_size not in sizes:
            raise Damaged(f"wrong-size-{path.name}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Damaged(f"missing-{path.name}") from error
    except OSError as error:
        if error.errno in NO_FILE:
            raise Damaged(f"unreadable-{error.errno}") from error
        raise
