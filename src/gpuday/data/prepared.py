"""A prepared folder: opened, every file of it vouched for, and set aside where one is not what was written.

The manifest carries its own checksum and those of tokenizer, drops and indexes, which vouch for the arrays: so every byte
of the folder is covered, and no part of another preparation is taken for one of this.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuday.core.errors import DataError
from gpuday.core.rundir import set_aside, write_atomic
from gpuday.core.sealed import CHECKSUM, DamagedFile, digest, is_count, read_bytes, read_sealed, require, seal_inside
from gpuday.data.claims import claimed
from gpuday.data.tokenfile import TokenStore
from gpuday.data.tokenizer import TextTokenizer
from gpuday.data.words import WordQuestion

# 4: the manifest vouches for every file; 3: long words are cut for the tokenizer's training, and CR alone ends a line
FORMAT = 4
_UNSEALED = 3  # up to this format a manifest had no checksum
MANIFEST = "manifest.json"
INDEXES = ("train.tok/index.json", "heldout.tok/index.json", "heldout.words/index.json")
VOUCHED = ("tokenizer.json", "drops.json", *INDEXES)


class OtherVersion(DataError):
    """Prepared data of another version of the package: nothing of it is damaged, and it stays where it is."""

    def __init__(self, path: Path, found: int) -> None:
        age = "an older" if found < FORMAT else "a newer"
        super().__init__(
            f"{path} was written by {age} version of gpuday: its data is of format {found}, and this version reads {FORMAT}",
            fix="go on with the version that environment.json names; or begin another run with --out, on data made anew",
        )


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A prepared folder, opened."""

    folder: Path
    tokenizer: TextTokenizer
    train: TokenStore
    heldout: TokenStore
    words: WordQuestion
    manifest: dict[str, Any]
    reused: bool = False

    @classmethod
    def open(cls, folder: Path, *, reused: bool = True) -> "PreparedData":
        """Open what `prepare` wrote; all but the tokens is read. Raises DamagedFile naming what is missing or damaged,
        OtherVersion for data of another format."""
        manifest = _read_manifest(folder)
        return cls(
            folder=folder,
            tokenizer=TextTokenizer.load(folder / "tokenizer.json"),
            train=TokenStore.open(folder / "train.tok"),
            heldout=TokenStore.open(folder / "heldout.tok"),
            words=WordQuestion.open(folder / "heldout.words"),
            manifest=manifest,
            reused=reused,
        )

    def verify(self) -> None:
        """Read the tokens too. Raises DamagedFile naming a file that is not what was written."""
        self.train.verify()
        self.heldout.verify()


def open_whole(folder: Path, report: Callable[..., None], *, every_byte: bool = False) -> PreparedData | None:
    """A prepared folder of the cache, opened; None where there is none, or a damaged one, which is set aside under a name
    that says why. The caller holds the claim to it. Raises OtherVersion for a folder of another format, which stays."""
    if not folder.exists():
        return None
    try:
        prepared = PreparedData.open(folder)
        if every_byte:
            prepared.verify()
    except DamagedFile as damage:
        aside = set_aside(folder, damage.path.name)
        report("notice", message=f"{damage.what}; the prepared folder is set aside as {aside.name}")
        return None
    return prepared


def set_aside_damaged(folder: Path, report: Callable[..., None]) -> None:
    """Read every byte of a folder in the cache, and set it aside if one is not what was written."""
    with claimed(folder.parent, folder.name, report):
        open_whole(folder, report, every_byte=True)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of a folder that holds all the rest."""
    files = {name: digest((folder / name).read_bytes()) for name in VOUCHED}
    write_atomic(folder / MANIFEST, seal_inside({"format": FORMAT, **manifest, "files": files}))


def refuse_other_version(folder: Path) -> None:
    """Raise OtherVersion for a folder whose manifest is of another format than this version's, as far as it says so."""
    path = folder / MANIFEST
    try:
        manifest = read_sealed(path)
        sealed = True
    except DamagedFile:
        manifest, sealed = _unsealed(path), False
    found = manifest.get("format")
    if is_count(found) and found and found != FORMAT and (sealed or found <= _UNSEALED):
        raise OtherVersion(path, int(found))


def _unsealed(path: Path) -> dict[str, Any]:
    """A manifest as versions before the checksum wrote it; empty where it is none. One bit does not make one of ours."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and CHECKSUM not in found and "files" not in found else {}


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    refuse_other_version(folder)
    manifest = read_sealed(path)
    require(path, manifest.get("format") == FORMAT, f"that it is of format {FORMAT}")
    require(path, isinstance(manifest.get("fingerprint"), str), "its fingerprint")
    require(path, isinstance(manifest.get("counts"), dict), "its counts")
    files = manifest.get("files")
    require(path, isinstance(files, dict) and files.keys() == set(VOUCHED), "which files it vouches for")
    for name in VOUCHED:
        if digest(read_bytes(folder / name)) != manifest["files"][name]:
            raise DamagedFile(folder / name, f"does not match its checksum in {MANIFEST}")
    return manifest
