"""One process prepares a text, the others wait; what a killed one left is removed by the next that prepares anything."""

import errno
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuday.core.errors import EnvironmentFault
from gpuday.core.rundir import SHARED_AGE
from gpuday.data.claims import claimed, clear_killed, clear_own


def silent(event: str, **fields: object) -> None:
    """Tells nobody."""
    raise AssertionError((event, fields))


def age(folder: Path) -> None:
    """Let a folder and all in it be older than a day."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (0, path.stat().st_mtime - SHARED_AGE - 1))


@pytest.fixture
def shared() -> Iterator[Path]:
    """A cache for all users."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def nobody(shared: Path) -> Iterator[None]:
    """Another user, where this one may be anybody: root, whom nothing is forbidden."""
    before = os.geteuid()
    try:
        yield
    finally:
        os.seteuid(before)
        for path in shared.rglob("*"):
            path.chmod(0o700)


def leave_root() -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    """It says so, and goes on when the first is done."""
    told, order = threading.Event(), []

    def second() -> None:
        with claimed(tmp_path, "a", lambda event, **fields: told.set()):
            order.append("second")

    other = threading.Thread(target=second)
    with claimed(tmp_path, "a", silent):
        other.start()
        assert told.wait(60)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_two_texts_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """A claim is to one key."""
    with claimed(tmp_path, "a", silent), claimed(tmp_path, "b", silent):
        pass


def test_what_a_killed_preparation_left_is_removed_and_a_live_one_is_not(tmp_path: Path) -> None:
    """Of whatever text: a corpus that is never asked for again would fill the disk for good. Not before a day, since the
    claim of one on another machine may not be seen."""
    for key in ("dead", "live", "elsewhere"):
        (tmp_path / f".{key}.tmp" / "train.tok").mkdir(parents=True)
        age(tmp_path / f".{key}.tmp")
    (tmp_path / ".elsewhere.tmp" / "train.tok" / "00000.bin").write_bytes(b"written just now")
    (tmp_path / "whole").mkdir()
    with claimed(tmp_path, "live", silent):
        clear_killed(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == [".elsewhere.tmp", ".live.tmp", "whole"]


def test_a_torn_write_in_the_cache_is_removed_after_a_day(tmp_path: Path) -> None:
    """Not before: machines share the cache, and the number of a process says nothing on another one."""
    old, young = (tmp_path / name / ".scores.bin.4194305.tmp" for name in ("a", "b"))  # above the largest number
    for path in (old, young):
        path.parent.mkdir()
        path.write_bytes(b"half")
    os.utime(old, (0, old.stat().st_mtime - SHARED_AGE - 1))
    clear_killed(tmp_path)
    assert (old.exists(), young.exists()) == (False, True)


def test_another_users_claim_can_be_taken_after_it(shared: Path, nobody: None) -> None:
    """The file of a lock may only be read by others: what it vouches for is there for all."""
    (shared / ".a.lock").touch(0o444)
    leave_root()
    with claimed(shared, "a", silent):
        pass


def test_what_another_user_left_stops_nobody(shared: Path, nobody: None) -> None:
    """Neither a folder whose lock may not be opened, nor a torn write where nothing may be removed."""
    (shared / ".a.tmp").mkdir()
    (shared / ".a.lock").touch(0o000)
    torn = shared / "b" / ".scores.bin.4194305.tmp"
    torn.parent.mkdir()
    torn.touch()
    age(shared)
    torn.parent.chmod(0o555)
    leave_root()
    clear_killed(shared)
    assert (shared / ".a.tmp").exists() and torn.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Exit code 5, with the variable that moves the cache."""

    def refuse(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(EnvironmentFault, match="without locks") as caught, claimed(tmp_path, "a", silent):
        pass
    assert "GPUDAY_CACHE" in caught.value.fix


def test_what_a_killed_preparation_of_this_text_left_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole; where it cannot be, the error says whose it is."""
    (tmp_path / ".a.tmp" / "train.tok").mkdir(parents=True)
    clear_own(tmp_path / ".a.tmp")
    assert list((tmp_path / ".a.tmp").iterdir()) == []
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    with pytest.raises(EnvironmentFault, match="cannot be removed") as caught:
        clear_own(tmp_path / ".a.tmp")
    assert f"user number {os.geteuid()}" in caught.value.where
