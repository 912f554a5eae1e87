"""A prepared folder: every byte of it is vouched for, and one that is damaged is set aside."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.core.errors import EnvironmentFault
from gpuday.core.rundir import write_json
from gpuday.core.sealed import DamagedFile, seal_inside, unseal_inside
from gpuday.data import arrayfile
from gpuday.data.prepare import DataConfig, prepare
from gpuday.data.prepared import (
    FORMAT,
    MANIFEST,
    VOUCHED,
    OtherVersion,
    PreparedData,
    open_whole,
    set_aside_damaged,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(DataConfig(corpus=("synthetic:20000",), vocab=512, length=32), tmp_path_factory.mktemp("c")).folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A prepared folder in a cache of this test's own."""
    return Path(shutil.copytree(original, tmp_path / "cache" / original.name))


@pytest.mark.parametrize("name", [MANIFEST, *VOUCHED])
def test_a_file_that_changed_is_named_on_opening(folder: Path, name: str) -> None:
    """One more line end in a tokenizer, or in what was dropped, is enough."""
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    with pytest.raises(DamagedFile, match=Path(name).name) as caught:
        PreparedData.open(folder)
    assert caught.value.path == folder / name


@pytest.mark.parametrize("found", [2, FORMAT + 1])
def test_data_of_another_version_is_refused_and_stays(folder: Path, found: int) -> None:
    """Nothing of it is damaged: the error says what to do, and it is not set aside. Once there was no checksum."""
    manifest = {**unseal_inside((folder / MANIFEST).read_bytes()), "format": found}
    if found < FORMAT:
        del manifest["files"]
        write_json(folder / MANIFEST, manifest)
    else:
        (folder / MANIFEST).write_bytes(seal_inside(manifest))
    for read in (lambda: PreparedData.open(folder), lambda: set_aside_damaged(folder, pytest.fail)):
        with pytest.raises(
            OtherVersion, match=f"an? {'older' if found < FORMAT else 'newer'} version.*{found}"
        ) as caught:
            read()
        assert "--out" in caught.value.fix
    assert folder.exists()


def test_a_manifest_that_says_nothing_of_its_version_is_damaged(folder: Path) -> None:
    """Without a checksum it is one of ours only where an earlier version could have written it."""
    for content in ({"fingerprint": "x"}, {"format": FORMAT}, {"format": 2, "files": {}}, [2]):
        write_json(folder / MANIFEST, content)
        with pytest.raises(DamagedFile, match=MANIFEST):
            PreparedData.open(folder)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("where", ["manifest", "array"])
def test_what_cannot_be_read_is_not_taken_for_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    """Another user's rights, a disk or a server that does not answer: the folder stays, and the error names the file."""

    def refuse(*args: Any) -> Any:
        raise OSError(number, os.strerror(number))

    if where == "manifest":
        monkeypatch.setattr(Path, "read_bytes", refuse)
    else:
        monkeypatch.setattr(arrayfile, "open", refuse, raising=False)
    with pytest.raises(EnvironmentFault, match=f"{folder}.*{os.strerror(number)}"):
        open_whole(folder, pytest.fail)
    assert folder.exists()


def test_what_is_gone_is_damage(folder: Path) -> None:
    """So is a folder in the place of a file, and a file in the place of a folder."""
    path = folder / "heldout.tok" / "index.json"
    path.unlink()
    for make in (lambda: None, path.mkdir, lambda: (shutil.rmtree(path.parent), path.parent.touch())):
        make()
        with pytest.raises(DamagedFile):
            PreparedData.open(folder)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def events() -> tuple[list[dict[str, Any]], Callable[..., None]]:
    told: list[dict[str, Any]] = []
    return told, lambda event, **values: told.append({"event": event, **values})


def test_a_whole_folder_is_opened_and_stays(folder: Path) -> None:
    """Without a word."""
    told, report = events()
    prepared = open_whole(folder, report, every_byte=True)
    assert prepared is not None and prepared.reused and prepared.folder == folder
    set_aside_damaged(folder, report)
    assert folder.exists() and told == []


def test_a_missing_folder_is_none(tmp_path: Path) -> None:
    """It is to be made."""
    assert open_whole(tmp_path / "none", pytest.fail) is None


def test_a_flipped_bit_of_the_tokens_is_found_where_every_byte_is_read(folder: Path) -> None:
    """And the folder set aside under the file's name, by whoever holds the claim."""
    flip(folder / "train.tok" / "00000.bin")
    told, report = events()
    assert open_whole(folder, report) is not None
    set_aside_damaged(folder, report)
    assert not folder.exists()
    assert sorted(os.listdir(folder.parent)) == [f".{folder.name}.lock", f"{folder.name}.bad-00000.bin"]
    assert "00000.bin does not match" in told[0]["message"] and told[0]["event"] == "notice"


def test_two_damaged_folders_of_one_name_are_both_kept(folder: Path, original: Path) -> None:
    """Setting aside never overwrites."""
    for _ in range(2):
        shutil.copytree(original, folder, dirs_exist_ok=True)
        flip(folder / "drops.json")
        assert open_whole(folder, lambda event, **values: None) is None
    assert len(list(folder.parent.glob("*.bad-drops.json*"))) == 2
