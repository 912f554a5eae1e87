"""Run directories: whole files or none, one owner at a time."""

import contextlib
import errno
import fcntl
import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gpuday.core import rundir
from gpuday.core.errors import DataError, EnvironmentFault, FitError, UsageError
from gpuday.core.rundir import RunDir

ENVIRONMENT = {**os.environ, "PYTHONPATH": ":".join(sys.path)}


@pytest.mark.parametrize("name", ["a", "modern-base-24h-0f3a", "v1.2_x", "0", "A" * 100])
def test_plain_names_are_accepted(name: str) -> None:
    """A run may be called by letters, digits, dot, underscore and hyphen."""
    assert rundir.check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-rf", "a/b", "a\\b", "a b", "a\n", "ü", "A" * 101, "a\0"])
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    """No name climbs out of a folder, hides, or looks like a flag."""
    with pytest.raises(UsageError, match="cannot name a run"):
        rundir.check_name(name)


def test_a_write_makes_the_folders_it_needs(tmp_path: Path) -> None:
    """The bytes are there, and nothing else is left beside them."""
    path = tmp_path / "a" / "b" / "file"
    rundir.write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("durable", [True, False])
def test_a_failed_rename_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    """A fault at the last moment leaves what was there before."""
    path = tmp_path / "file"
    rundir.write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        rundir.write_atomic(path, b"new", durable=durable)
    assert path.read_bytes() == b"old"


def test_a_failed_sync_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that may not be on the disk are never moved into place."""
    path = tmp_path / "file"
    rundir.write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        rundir.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_the_content_is_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that survives a power cut: file, rename, folder."""
    calls: list[str] = []
    sync, replace = os.fsync, os.replace

    def watched_sync(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def watched_replace(a: Path, b: Path) -> None:
        calls.append("rename")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "replace", watched_replace)
    rundir.write_atomic(tmp_path / "file", b"x")
    assert calls == ["file", "rename", "folder"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """While another process rewrites a file, every read gives one whole version."""
    path = tmp_path / "file"
    rundir.write_atomic(path, b"a" * 100_000)
    code = (
        "import itertools, sys; from pathlib import Path; from gpuday.core.rundir import write_atomic\n"
        "for i in itertools.takewhile(lambda _: not Path(sys.argv[2]).exists(), itertools.count()):\n"
        "    write_atomic(Path(sys.argv[1]), bytes([97 + i % 26]) * 100_000, durable=False)"
    )
    enough = tmp_path / "enough"
    writer = subprocess.Popen([sys.executable, "-c", code, str(path), str(enough)], env=ENVIRONMENT)
    seen = set()
    try:
        while len(seen) < 10 and writer.poll() is None:
            data = path.read_bytes()
            assert len(data) == 100_000
            assert len(set(data)) == 1
            seen.add(data[0])
    finally:
        enough.touch()
        writer.wait()
    assert writer.returncode == 0


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """A value survives the round trip, and the file ends with a newline for people who print it."""
    value = {"a": [1, 2.5, None, True, "ü"], "b": {}}
    rundir.write_json(tmp_path / "x.json", value)
    assert rundir.read_json(tmp_path / "x.json") == value
    assert (tmp_path / "x.json").read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path, value: float) -> None:
    """No file of a run holds NaN or infinity, and the old content stays."""
    path = tmp_path / "x.json"
    rundir.write_json(path, 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        rundir.write_json(path, {"x": value})
    assert rundir.read_json(path) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error says which file and what writes it."""
    with pytest.raises(DataError, match="does not exist") as caught:
        rundir.read_json(tmp_path / "x.json")
    assert "x.json" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": 1', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_named(tmp_path: Path, data: bytes) -> None:
    """Cut short, not text, or nested to exhaust the parser: one sentence, exit code 3."""
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match="not valid JSON"):
        rundir.read_json(path)


def test_a_run_writes_where_the_documentation_says(tmp_path: Path) -> None:
    """The layout of a run directory is a promise to every reader of one."""
    run = RunDir(tmp_path)
    paths = {name: getattr(run, name) for name, kind in vars(RunDir).items() if isinstance(kind, property)}
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in paths.items()} == {
        "recipe": "recipe.json",
        "environment": "environment.json",
        "journal": "journal.jsonl",
        "fit": "fit.json",
        "heartbeat": "heartbeat.json",
        "summary": "summary.json",
        "report": "report.html",
        "data": "data",
        "checkpoints": "checkpoints",
        "model": "model",
        "scores": "scores",
    }


def test_the_summary_grows_by_sections(tmp_path: Path) -> None:
    """A room writes its section and keeps those of the others; the same section is replaced whole."""
    run = RunDir(tmp_path)
    run.update_summary(train={"steps": 1, "tokens": 2})
    assert run.update_summary(seed=7) == {"train": {"steps": 1, "tokens": 2}, "seed": 7}
    run.update_summary(train={"steps": 3})
    assert json.loads(run.summary.read_text()) == {"train": {"steps": 3}, "seed": 7}


@contextlib.contextmanager
def held_by_another_process(root: Path):
    code = (
        "import sys; from pathlib import Path; from gpuday.core.rundir import RunDir\n"
        "with RunDir(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(root)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout.readline() == "held\n"
    try:
        yield owner
    finally:
        owner.kill()
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()


def test_a_second_process_is_refused_and_told_who_holds_the_run(tmp_path: Path) -> None:
    """Two processes never train in one folder; the message names the owner's process."""
    with (
        held_by_another_process(tmp_path) as owner,
        pytest.raises(UsageError, match=f"in use by process {owner.pid} on"),
        RunDir(tmp_path).lock(),
    ):
        pass


def test_a_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    """After kill -9 the same command resumes without anybody removing a file."""
    with held_by_another_process(tmp_path) as owner:
        owner.kill()
        owner.wait()
        with RunDir(tmp_path).lock():
            assert f"process {os.getpid()}" in (tmp_path / ".lock").read_text()


def test_a_lock_is_free_again_after_the_block_even_when_it_raised(tmp_path: Path) -> None:
    """A fault inside does not keep the folder."""
    run = RunDir(tmp_path / "new")
    with pytest.raises(ZeroDivisionError), run.lock():
        raise ZeroDivisionError
    with run.lock():
        pass


def test_the_same_process_cannot_hold_a_run_twice(tmp_path: Path) -> None:
    """Two threads of one process are two owners too."""
    with RunDir(tmp_path).lock(), pytest.raises(UsageError, match="in use"), RunDir(tmp_path).lock():
        pass


def test_waiting_is_left_to_the_caller(tmp_path: Path) -> None:
    """The refusal comes while the other process goes on."""
    with held_by_another_process(tmp_path), pytest.raises(UsageError, match="in use"), RunDir(tmp_path).lock():
        pass


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some network file systems are mounted: two processes could train there, and neither would know."""

    def none(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(EnvironmentFault, match="without locks: No locks available"), RunDir(tmp_path).lock():
        pass


def test_a_file_system_that_locks_files_only_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of networks do: the folder's own lock is a second one."""
    real = fcntl.flock

    def files_only(handle: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", files_only)
    with RunDir(tmp_path).lock(), pytest.raises(UsageError, match="in use"), RunDir(tmp_path).lock():
        pass


def test_a_user_without_a_name_holds_a_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that knows the number alone."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with RunDir(tmp_path).lock():
        assert f"(user number {os.geteuid()}, since " in (tmp_path / ".lock").read_text()


def test_who_takes_the_lock_clears_what_killed_processes_left_half_written(tmp_path: Path) -> None:
    """Files and folders, at any depth, also under this process's own number; not those of a process that runs."""
    run, dead = RunDir(tmp_path / "run"), 4194305  # above the largest number of a process
    gone = [f".data.{dead}.tmp", f"scores/glue/.0.json.{dead}.tmp", f".summary.json.{os.getpid()}.tmp"]
    kept = [f".report.html.{os.getppid()}.tmp", ".lock", "recipe.json", "notes.tmp"]
    (run.root / gone[0] / "heldout.tok").mkdir(parents=True)
    (run.root / gone[1]).parent.mkdir(parents=True)
    for name in (*gone[1:], *kept):
        (run.root / name).write_text("half")
    with run.lock():
        assert [name for name in gone if (run.root / name).exists()] == []
        assert [name for name in kept if not (run.root / name).exists()] == []


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    """Files that are opened by `no_link` are made with the usual permissions, and refused where they are links."""
    with open(tmp_path / "a", "wb", opener=rundir.no_link) as file:
        file.write(b"mine")
    assert (tmp_path / "a").stat().st_mode & 0o111 == 0
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for mode in ("wb", "ab", "a+b"):
        with pytest.raises(OSError, match="symbolic links"), open(tmp_path / "b", mode, opener=rundir.no_link):
            pytest.fail("it was opened")
    assert (tmp_path / "a").read_bytes() == b"mine"


def test_only_files_of_a_sane_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pipe, which would wait for ever, no device, which never ends, and nothing larger than any file of ours."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(DataError, match="pipe or a device"):
            rundir.read_json(tmp_path / name)
    monkeypatch.setattr(rundir, "MAX_JSON", 3)
    (tmp_path / "large").write_text("[10]")
    with pytest.raises(DataError, match="4 bytes"):
        rundir.read_json(tmp_path / "large")


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    """With the folders above it that were made for it; what was there before stays, and what was written in it, too."""
    for name, written in (("a/b", False), ("a/c", True)):
        run = RunDir(tmp_path / name)
        with pytest.raises(ZeroDivisionError), run.lock():
            if written:
                run.recipe.write_text("{}")
            raise ZeroDivisionError
        assert run.root.exists() == written
    (tmp_path / "there").mkdir()
    with pytest.raises(ZeroDivisionError), RunDir(tmp_path / "there").lock():
        raise ZeroDivisionError
    assert (tmp_path / "there").is_dir()
    with RunDir(tmp_path / "new" / "x").lock():
        pass
    assert (tmp_path / "new" / "x").is_dir()


def test_what_is_set_aside_keeps_its_content_under_a_name_that_says_why(tmp_path: Path) -> None:
    """A file or a folder; the second of one name is numbered."""
    for number in ("", "-1", "-2"):
        (tmp_path / "x.json").write_text(number)
        assert rundir.set_aside(tmp_path / "x.json", "unreadable") == tmp_path / f"x.json.bad-unreadable{number}"
        assert (tmp_path / f"x.json.bad-unreadable{number}").read_text() == number
    (tmp_path / "data").mkdir()
    assert rundir.set_aside(tmp_path / "data", "index.json").is_dir()
    assert not (tmp_path / "data").exists()


def test_room_is_asked_for_in_bytes_that_are_there(tmp_path: Path) -> None:
    """Of the real disk: nothing always fits, and more than any disk has never does."""
    rundir.require_space(tmp_path, 0, "nothing", fix="none")
    with pytest.raises(FitError, match="all of it takes about") as caught:
        rundir.require_space(tmp_path, 1 << 70, "all of it", fix="buy more")
    assert f"{1 << 70:,} bytes" in caught.value.what and caught.value.fix == "buy more"
    assert caught.value.where == str(tmp_path)


def test_what_cannot_be_cleared_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-written file of another user stays; those behind it go, and the run is had."""
    for name in (".a.999999999.tmp", ".b.999999999.tmp"):
        (tmp_path / name).touch()
    real = Path.unlink

    def unlink(path: Path, **options: bool) -> None:
        if path.name.startswith(".a."):
            raise PermissionError(errno.EACCES, "Permission denied")
        real(path, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    with RunDir(tmp_path).lock():
        assert sorted(p.name for p in tmp_path.iterdir()) == [".a.999999999.tmp", ".lock"]
