"""One process prepares a text, the others wait; what a killed one left is removed by the next that prepares anything."""

import os
import threading
from pathlib import Path

from gpuday.core.rundir import SHARED_AGE
from gpuday.data.claims import claimed, clear_killed


def silent(event: str, **fields: object) -> None:
    """Tells nobody."""
    raise AssertionError((event, fields))


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
    """Of whatever text: a corpus that is never asked for again would fill the disk for good."""
    for key in ("dead", "live"):
        (tmp_path / f".{key}.tmp" / "train.tok").mkdir(parents=True)
    (tmp_path / "whole").mkdir()
    with claimed(tmp_path, "live", silent):
        clear_killed(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == [".live.tmp", "whole"]


def test_a_torn_write_in_the_cache_is_removed_after_a_day(tmp_path: Path) -> None:
    """Not before: machines share the cache, and the number of a process says nothing on another one."""
    old, young = (tmp_path / name / ".scores.bin.4194305.tmp" for name in ("a", "b"))  # above the largest number
    for path in (old, young):
        path.parent.mkdir()
        path.write_bytes(b"half")
    os.utime(old, (0, old.stat().st_mtime - SHARED_AGE - 1))
    clear_killed(tmp_path)
    assert (old.exists(), young.exists()) == (False, True)
