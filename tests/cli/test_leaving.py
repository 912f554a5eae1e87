"""Leaving: whatever a signal meets, the process is gone soon, with one message that holds the command to go on."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpuday.cli.leaving import Leaving, go_on
from gpuday.core.errors import DataError, Interrupted
from gpuday.train.signals import GRACE, SAVE_GRACE, WATCHED, Leave

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import os, signal, subprocess, sys, threading, time
from gpuday import cli
from gpuday.train.signals import STAKE

def ready():
    print("ready", flush=True)

def native():  # another thread takes the signal, and no handler of Python's runs before the call comes back
    import ctypes
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    ready()
    ctypes.CDLL(None).sleep(60)

def swallow():
    try:
        ready()
        time.sleep(60)
    except BaseException:
        time.sleep(60)

def child():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    ready()
    time.sleep(60)

def orphan():  # the driver of a compiler, which subprocess.run kills, and the compiler, which it does not
    subprocess.run(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo ready; wait"])

def importing():
    open("slow.py", "w").write("print('ready', flush=True); import time\\ntime.sleep(60)")
    sys.path.insert(0, ".")
    import slow

def waits():
    threading.Thread(target=time.sleep, args=(60,)).start()
    ready()
    time.sleep(60)

def stake():
    STAKE.hold()
    try:
        ready()
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(60)

def app(tokens, **_):
    globals()[tokens[0]]()

cli.app = app
cli.main()
"""


def process(place: Path, what: str, **environment: str) -> subprocess.Popen[str]:
    """A command that is in the middle of something."""
    started = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, what, "a b"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def told(name: str, what: str) -> str:
    return f"error: {name}: stopped\n  fix:   give the same command again to go on: gpuday {what} 'a b'\n"


PLACES = {
    "native": signal.SIGTERM,
    "swallow": signal.SIGINT,
    "child": signal.SIGUSR1,
    "importing": signal.SIGHUP,
    "waits": signal.SIGTERM,
    "orphan": signal.SIGINT,
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, float, list[psutil.Process]]]:
    """Code, standard error, seconds and children of commands that a signal met: native code, a swallowed exception, a
    child process, an import, a thread that the way out waits for, and a child of a child that is killed. All at once: they
    only wait."""
    place = tmp_path_factory.mktemp("leaving")
    running = {what: process(place, what) for what in PLACES}
    children = {what: psutil.Process(p.pid).children(recursive=True) for what, p in running.items()}
    began = time.monotonic()
    for what, number in PLACES.items():
        running[what].send_signal(number)
    found = {}
    for what, p in running.items():
        _, err = p.communicate(timeout=60)
        found[what] = (p.returncode, err, time.monotonic() - began, children[what])
    return found


@pytest.mark.parametrize("what", PLACES)
def test_the_process_is_gone_whatever_holds_it_up(ended: dict[str, Any], what: str) -> None:
    """Exit code 75 within seconds, one message and nothing else, and no process of its own left behind."""
    code, err, seconds, children = ended[what]
    assert code == 75
    assert err == told(PLACES[what].name, what)
    assert seconds < 30
    assert len(children) == {"child": 1, "orphan": 2}.get(what, 0)
    if what != "orphan" or sys.platform == "linux":  # elsewhere nobody can be made the parent of an orphan
        assert psutil.wait_procs(children, timeout=20)[1] == []


def test_work_at_stake_has_its_time_and_a_second_signal_ends_it(tmp_path: Path) -> None:
    """It is still there when others would have been ended; asked again, it is gone at once."""
    p = process(tmp_path, "stake")
    p.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(GRACE + 1)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=SAVE_GRACE / 3)
    assert p.returncode == 75
    assert err == told("SIGINT after SIGTERM", "stake")


def test_one_rank_speaks_for_all(tmp_path: Path) -> None:
    """The first; what to type is the launcher's command, which no rank knows."""
    running = [process(tmp_path, "waits", RANK=rank) for rank in ("0", "1")]
    for p in running:
        p.send_signal(signal.SIGTERM)
    errs = [p.communicate(timeout=60)[1] for p in running]
    assert [p.returncode for p in running] == [75, 75]
    assert errs == ["error: SIGTERM: stopped\n  fix:   give the same torchrun command again to go on\n", ""]


def test_the_command_can_be_pasted() -> None:
    """Arguments with spaces, quotes and dollar signs come back as they were, whatever the program was started as."""
    tokens = ["run", "modern", "--out", "it's $HOME", "--set", 'data.corpus=["a b"]']
    command = go_on(tokens).partition(": ")[2]
    assert shlex.split(command) == ["gpuday", *tokens]


def test_a_command_that_keeps_nothing_does_not_say_that_it_goes_on() -> None:
    """Predictions appear when all of them are there."""
    assert (
        go_on(["predict", "a", "b.csv"])
        == "answers are kept when all are there; the same command begins anew: gpuday predict a b.csv"
    )


@pytest.mark.parametrize("number", WATCHED)
def test_a_signal_is_raised_where_the_main_thread_stands(number: signal.Signals) -> None:
    """Once: what cleans up on the way out is not torn away, too. The handlers of before come back."""
    before_all = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        before = [signal.getsignal(n) for n in WATCHED]
        leaving, cleaned = Leaving(["run"], owns=False), []
        with pytest.raises(Leave, match=number.name), leaving:
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), number)
                cleaned.append(True)
        assert cleaned and leaving.asked == number.name
        assert [signal.getsignal(n) for n in WATCHED] == before
    finally:
        signal.signal(signal.SIGHUP, before_all)


def test_a_signal_that_got_lost_is_found_at_the_end() -> None:
    """A library may swallow what was raised; the command does not then count as done."""
    with pytest.raises(Leave, match="SIGTERM"), Leaving(["run"], owns=False):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:  # noqa: BLE001
            pass


def asked() -> Leaving:
    leaving = Leaving(["run"], owns=False)
    leaving.asked = "SIGTERM"
    return leaving


def test_an_error_that_a_signal_caused_is_an_interruption() -> None:
    """Native code makes plain exceptions of it, and children that the terminal's Ctrl-C met look like faults."""
    for error in (Exception("KeyboardInterrupt"), DataError("the reader was killed"), Leave("SIGTERM")):
        found = asked().error(error)
        assert isinstance(found, Interrupted)
        assert found.what == "SIGTERM: stopped"
        assert found.fix.endswith("gpuday run")


def test_an_error_that_explains_the_signal_is_kept() -> None:
    """As that of a rank which the launcher stopped because another is gone."""
    error = DataError("rank 1 is gone")
    error.__cause__ = Leave("SIGTERM")
    assert asked().error(error) is None


def test_an_interruption_keeps_what_it_says_and_gets_the_command() -> None:
    """Training knows the step, the command line what to type."""
    found = Leaving(["run"], owns=False).error(Interrupted("SIGTERM: stopped at step 3", where="runs/a", fix="again"))
    assert found is not None
    assert (found.what, found.where) == ("SIGTERM: stopped at step 3", "runs/a")
    assert found.fix.endswith("gpuday run")


@pytest.mark.parametrize("error", [DataError("x"), ValueError("x")])
def test_a_fault_without_a_signal_is_a_fault(error: Exception) -> None:
    """Nothing is passed off as an interruption."""
    assert Leaving(["run"], owns=False).error(error) is None
