"""One owner at a time: of a run's folder, and of a text in the cache; and a dead owner is none."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gpuday import presets
from gpuday.cli import main
from gpuday.core import config
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.core.rundir import OWNER_CHARACTERS, RunDir

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}

# Takes the lock, says so or why not, and holds it until standard input ends.
HOLD = """
import sys
from pathlib import Path
from gpuday.core.errors import GpudayError
from gpuday.core.rundir import RunDir
try:
    with RunDir(Path(sys.argv[1])).lock():
        print("held", flush=True)
        sys.stdin.read()
except GpudayError as error:
    print(error.what, flush=True)
    sys.exit(error.exit_code)
"""

PREPARE = """
import json, os, sys, time
from pathlib import Path
from gpuday.data.prepare import DataConfig, prepare

def progress(event, **values):
    os.write(1, json.dumps([event, values]).encode() + b"\\n")
    if [event, values.get("stage")] == ["stage", "encode"]:
        while gate.exists():
            time.sleep(0.005)

cache, gate = Path(sys.argv[1]), Path(sys.argv[2])
config = DataConfig(corpus=("synthetic:20000",), vocab=512, length=32)
prepare(config, cache, progress=progress)
"""
Process = subprocess.Popen[str]


@contextlib.contextmanager
def running(script: str, *arguments: object) -> Iterator[Process]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def said(process: Process) -> str:
    return process.stdout.readline().strip()  # type: ignore[union-attr]


def test_the_second_of_two_processes_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    """Exit code 2; owner's process, host, user and since when."""
    before = datetime.now().astimezone().replace(microsecond=0)
    with running(HOLD, tmp_path) as owner:
        assert said(owner) == "held"
        with running(HOLD, tmp_path) as second:
            told = said(second)
            assert second.wait(60) == 2
    assert f"in use by process {owner.pid} on {socket.gethostname()} (user " in told
    user, _, since = told.partition("(user ")[2].rstrip(")").partition(", since ")
    assert user
    assert before <= datetime.fromisoformat(since) <= datetime.now().astimezone()


def test_of_many_that_come_at_once_one_gets_in(tmp_path: Path) -> None:
    """And the others name that one, not each other."""
    with contextlib.ExitStack() as stack:
        all_of_them = [stack.enter_context(running(HOLD, tmp_path)) for _ in range(8)]
        words = [said(process) for process in all_of_them]
        owner = all_of_them[words.index("held")]
        assert len([word for word in words if f"in use by process {owner.pid} on" in word]) == 7


def test_a_killed_owner_is_in_nobodys_way(tmp_path: Path) -> None:
    """Again and again, kill -9, and at once: the kernel frees what it held."""
    for _ in range(3):
        with running(HOLD, tmp_path) as owner:
            assert said(owner) == "held"
            owner.send_signal(signal.SIGKILL)
            owner.wait(60)
            with RunDir(tmp_path).lock():
                assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()


@pytest.mark.parametrize(
    "left",
    [
        b"",
        b"process 1 on this (user root, since 1970-01-01 00:00:00+00:00)\n",  # a process that runs, and holds nothing
        b"\xff\xfe\x00" * 1000,
        b"x" * (1 << 20),
    ],
)
def test_what_stands_in_the_file_blocks_nobody(tmp_path: Path, left: bytes) -> None:
    """It is for people: of a dead owner, of another program, or damaged. A refusal shows a line of it at most."""
    (tmp_path / ".lock").write_bytes(left)
    with RunDir(tmp_path).lock():
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on")
        (tmp_path / ".lock").write_bytes(left)
        with pytest.raises(UsageError, match="in use by") as refused, RunDir(tmp_path).lock():
            pass
        assert len(refused.value.what) < len(str(tmp_path)) + OWNER_CHARACTERS + 20


def test_removing_the_file_lets_nobody_in(tmp_path: Path) -> None:
    """What many do who read that a lock is in the way: the folder itself is locked, too, while its owner lives."""
    with running(HOLD, tmp_path) as owner:
        assert said(owner) == "held"
        (tmp_path / ".lock").unlink()
        with pytest.raises(UsageError, match="in use by an unknown process"), RunDir(tmp_path).lock():
            pass
        owner.kill()
        owner.wait(60)
        with RunDir(tmp_path).lock():
            pass


def test_who_only_looks_keeps_nobody_out(tmp_path: Path) -> None:
    """A process that looks all the time whether the run is held, as `gpuday list` does once: no lock is refused."""
    look = """
import sys
from pathlib import Path
from gpuday.report.load import _is_held
with open(sys.argv[1], "a"):
    print("looking", flush=True)
seen = {_is_held(Path(sys.argv[1])) for _ in iter(lambda: Path(sys.argv[2]).exists(), True)}
print(sorted(seen), flush=True)
"""
    with running(look, tmp_path / ".lock", tmp_path / "enough") as looker:
        assert said(looker) == "looking"
        for _ in range(300):
            with RunDir(tmp_path).lock():
                pass
        (tmp_path / "enough").touch()
        assert said(looker) == "[False, True]"


def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    """Of another user, or read-only: one sentence, exit code 2, and nothing made. As nobody, where root may all."""
    script = """
import os, sys
from pathlib import Path
from gpuday.core.errors import GpudayError
from gpuday.core.rundir import RunDir
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
for name in (".", "new"):
    try:
        with RunDir(Path(name)).lock():
            print("held")
    except GpudayError as error:
        print(error.exit_code, error.what)
"""
    tmp_path.chmod(0o555)
    try:
        with running(script, tmp_path) as process:
            out, _ = process.communicate(timeout=60)
    finally:
        tmp_path.chmod(0o755)
    wanted = [
        "2 . cannot be the run's folder: Permission denied",
        "2 new cannot be the run's folder: Permission denied",
    ]
    assert out.splitlines() == wanted
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def claimed(tmp_path: Path) -> Path:
    """The folder of a run that has its recipe."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    recipe = presets.find("modern")("nano", Budget.parse("3steps"))
    (folder / "recipe.json").write_text(json.dumps(config.to_dict(recipe)))
    return folder


def called(*arguments: object) -> int:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
    finally:
        signal.signal(signal.SIGTERM, handler)
    return int(str(ended.value.code))


def test_commands_that_write_are_refused_beside_a_training_and_those_that_read_are_not(
    claimed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While another process holds the run. The report writes its page alone, in one step."""
    with running(HOLD, claimed) as owner:
        assert said(owner) == "held"
        same = ["modern", "--size", "nano", "--budget", "3steps", "--out", claimed]
        for command in (
            ["run", *same],
            ["train", *same],
            ["prepare", *same],
            ["evaluate", claimed],
            ["export", claimed],
        ):
            assert called(*command) == 2
            assert f"in use by process {owner.pid} on" in capsys.readouterr().err
        for command in (["list", claimed.parent], ["show", claimed], ["report", claimed]):
            assert called(*command) == 0, capsys.readouterr().err
    assert (claimed / "report.html").is_file()


def events(process: Process, until: str) -> list[tuple[str, dict[str, Any]]]:
    """What a preparation tells, up to an event of this kind or stage."""
    seen: list[tuple[str, dict[str, Any]]] = []
    while line := said(process):
        event, values = json.loads(line)
        seen.append((event, values))
        if until in (event, values.get("stage")):
            return seen
    raise AssertionError(f"never told {until}: {seen}")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest, which has the seconds that it took."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "manifest.json"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_of_two_preparations_of_one_text_one_works_and_the_other_waits(tmp_path: Path) -> None:
    """Both then have the same folder, made once."""
    gate, cache = tmp_path / "gate", tmp_path / "cache"
    gate.touch()
    with running(PREPARE, cache, gate) as first, running(PREPARE, cache, gate) as second:
        working, waiting = _roles(first, second)
        gate.unlink()
        made, found = (events(process, "prepared")[-1][1] for process in (working, waiting))
        assert [process.wait(60) for process in (working, waiting)] == [0, 0]
    assert made["folder"] == found["folder"]
    assert (made["reused"], found["reused"]) == (False, True)
    assert {key: made[key] for key in made if key != "reused"} == {key: found[key] for key in found if key != "reused"}


def test_a_killed_preparation_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """kill -9 in its middle: whoever waits goes on at once, and its data is to the byte that of one undisturbed."""
    gate, cache, quiet = tmp_path / "gate", tmp_path / "cache", tmp_path / "quiet"
    gate.touch()
    with running(PREPARE, cache, gate) as first, running(PREPARE, cache, gate) as second:
        working, waiting = _roles(first, second)
        assert [p.name for p in cache.iterdir() if p.suffix == ".tmp"]
        working.kill()
        events(waiting, "encode")
        gate.unlink()
        made = Path(events(waiting, "prepared")[-1][1]["folder"])
        assert waiting.wait(60) == 0
    with running(PREPARE, quiet, gate) as alone:
        undisturbed = Path(events(alone, "prepared")[-1][1]["folder"])
        assert alone.wait(60) == 0
    assert [p.name for p in cache.iterdir() if p.suffix == ".tmp"] == []
    assert contents(made) == contents(undisturbed)


def _roles(first: Process, second: Process) -> tuple[Process, Process]:
    """(who prepares and stands at the gate, who waits for it): either may have come first."""
    if said(first).startswith('["waiting"'):
        events(second, "encode")
        return second, first
    events(first, "encode")
    events(second, "waiting")
    return first, second
