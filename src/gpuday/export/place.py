"""A folder that appears whole or not at all: it is built beside its place and moved there when nothing failed."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from gpuday.core.errors import UsageError
from gpuday.core.rundir import fsync_folder

CARD = "README.md"


@contextlib.contextmanager
def replacing(place: Path, files: Collection[str]) -> Iterator[Path]:
    """A new folder to fill, which takes the place when the block ends without an error; an older one gives way whole.

    Raises UsageError when `place` holds anything but an earlier folder of these `files`, a card of ours among them.
    """
    building, old = (place.with_name(f".{place.name}.{stage}") for stage in ("new", "old"))
    if old.exists() and not place.exists():
        os.replace(old, place)  # a kill came between the two renames of `_publish`
    check_replaceable(place, files)
    for leftover in (building, old):
        shutil.rmtree(leftover, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
        _publish(building, place, old)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def check_replaceable(place: Path, files: Collection[str]) -> None:
    """What stands at `place` will be deleted: raise UsageError for all but an empty folder and an earlier export of these
    `files`, and for a link to one."""
    if place.is_symlink():
        raise UsageError(f"{place} is a link, and an export takes no place but its own", fix="remove the link")
    if not place.exists():
        return
    found = {path.name for path in place.iterdir()} if place.is_dir() else {""}
    if found and not (found <= {*files} and CARD in found and "gpuday" in (place / CARD).read_text(encoding="utf-8")):
        raise UsageError(f"{place} exists and is not an earlier export", fix="name a new folder, or empty this one")


def _publish(building: Path, place: Path, old: Path) -> None:
    """Move a finished folder into its place, durably."""
    for weights in building.rglob("*.safetensors"):  # the others are synced as they are written
        with open(weights, "rb") as file:
            os.fsync(file.fileno())
    fsync_folder(building)
    if place.exists():
        os.replace(place, old)  # a folder that is not empty cannot be replaced in one step
    os.replace(building, place)
    fsync_folder(place.parent)
    shutil.rmtree(old, ignore_errors=True)
