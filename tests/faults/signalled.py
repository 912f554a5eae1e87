"""`gpuday` commands that send themselves a signal at a place of their work, however fast the machine is.

Run as a script it reads one request a line, {"place", "signal", "out", "command"}, runs the command in a process that is
forked from this one, where torch is loaded already, and answers one line: {"code", "seconds", "left", "missed"}. `seconds`
are those from the signal to the end of the process; `left` counts processes that outlived it. As `signalled.py start-up
SIGNAL COMMAND ...` it is the command itself, and the signal comes when torch is about to be imported.
"""

import importlib.abc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Act = Callable[[], None]
# Places from which the main thread removes files or has a message of its own, with the step: on a busy machine it may need
# more than the seconds after which another thread ends the process. A test that fails by hanging is found by its own limit.
UNHURRIED = (
    "reading", "training the tokenizer", "encoding", "fitting", "building", "first look", "compiling the first step",
    "in a step", "in an update", "looking", "saving", "final look", "final save",
)  # fmt: skip
PATIENCE = 60.0  # seconds


def at(owner: Any, name: str, act: Act, *, nth: int = 1, behind: bool = False) -> None:
    """Act at the n-th call of a function, before it does its work or behind it."""
    real, calls = getattr(owner, name), [0]

    def function(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == nth and not behind:
            act()
        result = real(*args, **options)
        if calls[0] == nth and behind:
            act()
        return result

    setattr(owner, name, function)


def put(place: str, act: Act) -> None:
    """Have `act` called at a place."""
    from torch._inductor.async_compile import AsyncCompile

    from gpuday.cli import rooms, run
    from gpuday.data import prepare, wordcache
    from gpuday.evaluate import word_bits
    from gpuday.export import hf
    from gpuday.objectives import _predicting
    from gpuday.optim import muon
    from gpuday.report import page
    from gpuday.train import checkpoint, compiling, fit, session, trial, validate

    def within(owner: Any, name: str, *rest: Any, **options: Any) -> None:
        """`at(*rest)`, counted from the call of a function of `owner` on."""
        at(owner, name, lambda: at(*rest, **options))

    steps = session.Session
    places: dict[str, Callable[[], None]] = {
        "reading": lambda: at(prepare._Job, "_census", act),
        "training the tokenizer": lambda: at(prepare, "_hash_share", act, nth=100),  # called by native code
        "encoding": lambda: at(wordcache.WordCache, "_words", act, nth=100),  # in a thread
        "fitting": lambda: at(trial, "gradient_seconds", act, behind=True),
        "building": lambda: at(session, "make_learner", act, behind=True),
        "first look": lambda: within(steps, "first_look", validate, "_losses", act, nth=2),
        "compiling the first step": lambda: within(
            steps, "step", AsyncCompile, "cpp_pybinding", lambda: threading.Timer(0.3, act).start()
        ),
        "in a step": lambda: within(steps, "step", _predicting, "cross_entropy", act, nth=16 * 2 + 5, behind=True),
        "in an update": lambda: at(muon, "orthogonalise", act, nth=7),
        "looking": lambda: within(steps, "step", validate, "_losses", act, nth=2),
        "saving": lambda: within(steps, "step", checkpoint, "fsync_folder", act, nth=3),
        "final look": lambda: within(steps, "finish", validate, "_losses", act, nth=2),
        "final save": lambda: within(steps, "finish", checkpoint, "fsync_folder", act),
        "evaluating": lambda: at(word_bits, "row_bits", act, behind=True),
        "exporting": lambda: at(hf, "_write", act, behind=True),
        "reporting": lambda: at(page, "write_report", act) or at(rooms, "write_report", act),
    }
    if place == "compiling the first step":  # the smallest kernel that is built to try the compiler
        compiling.start_compiler = fit.start_compiler = lambda device: ""
    assert run
    if place:
        places[place]()


def obey_all() -> None:
    """As from a terminal, also where the tests run behind `&` or `nohup`, by which signals are ignored."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def be(request: dict[str, Any], moment: Path) -> None:
    """Be the command of a request; never comes back."""
    from gpuday import cli
    from gpuday.train import signals

    os.setsid()
    obey_all()
    if request["place"] in UNHURRIED:
        signals.GRACE = PATIENCE
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{request['out']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)

    def act() -> None:
        moment.write_text(str(time.monotonic()))
        os.kill(os.getpid(), signal.Signals[request["signal"]])

    put(request["place"], act)
    sys.argv = ["gpuday", *request["command"]]
    try:
        cli.main()
    except SystemExit as ended:
        os._exit(ended.code)
    finally:  # no error but that is one of the command line's
        os._exit(1)


def session_of(leader: int) -> list[int]:
    """Processes of a session, but those that ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            found += [int(entry.name)] if int(owner) == leader and state != "Z" else []
    return found


def serve() -> None:
    """Answer requests until there are no more."""
    import transformers

    assert transformers.ModernBertForMaskedLM  # found when it is asked for
    put("", lambda: None)  # with all that this imports
    for line in sys.stdin:
        request = json.loads(line)
        moment = Path(request["out"] + ".moment")
        moment.unlink(missing_ok=True)
        pid = os.fork()
        if not pid:
            be(request, moment)
        _, status = os.waitpid(pid, 0)
        ended, until = time.monotonic(), time.monotonic() + 20
        while (left := session_of(pid)) and time.monotonic() < until:  # killed ones take a moment
            time.sleep(0.02)
        sent = moment.exists()
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "seconds": ended - float(moment.read_text()) if sent else None,
            "left": len(left),
            "missed": not sent,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class AtTorch(importlib.abc.MetaPathFinder):
    """Sends a signal when torch is about to be imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == "torch":
            os.kill(os.getpid(), signal.Signals[sys.argv_signal])  # type: ignore[attr-defined]


def start_up() -> None:
    """The command, and a signal while it starts."""
    from gpuday import cli

    obey_all()
    _, _, name, *command = sys.argv
    sys.argv_signal = name  # type: ignore[attr-defined]
    sys.argv = ["gpuday", *command]
    sys.meta_path.insert(0, AtTorch())
    cli.main()


if __name__ == "__main__":
    start_up() if sys.argv[1:2] == ["start-up"] else serve()
