"""Commands of this Python in processes that are forked from one in which torch is loaded.

A command that trains three steps works for half a second, and starts for six. A test of what a process does, or of what
becomes of it, gives its command to `Popen` of here; where the start counts, `subprocess.Popen` starts a whole one. What a
fork has in common with the others is no more than what is imported, and the seed of `hash`.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import IO, Any

# Two ranks as forks of their launcher, which comes behind this: an absolute path of a script, and its arguments.
TWO_RANKS = (
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    *("--start-method", "fork", "--run-path"),
)
_context = multiprocessing.get_context("forkserver")


def start() -> None:
    """Start the process that is forked, which takes five seconds, unless it runs already."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        _context.set_forkserver_preload(["warmed"])
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


class _Stream:
    """A file descriptor that arrives in the process under another number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> Any:
        return _arrived, (reduction.DupFd(self._number),)


def _arrived(sent: Any) -> int:
    return int(sent.detach())


class Popen:
    """As `subprocess.Popen`, in a process group of its own; a stream is a file, PIPE (`stdout` alone) or DEVNULL."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdout: IO[bytes] | int, stderr: IO[bytes]
    ) -> None:
        assert command[0] == sys.executable
        self.args, self.stdout = command, None
        start()
        with open(os.devnull, "wb") as null:
            out, ours = null.fileno(), []
            if stdout == subprocess.PIPE:
                read, out = os.pipe()
                self.stdout, ours = os.fdopen(read, "rb"), [out]
            elif not isinstance(stdout, int):
                out = stdout.fileno()
            streams = (_Stream(out), _Stream(stderr.fileno()))
            self._process = _context.Process(target=_be, args=(list(command[1:]), str(cwd), dict(env), *streams))
            self._process.start()
            for number in ours:
                os.close(number)
        self.pid = int(self._process.pid or 0)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with its output captured as text, for two minutes at most."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Popen(command, cwd=cwd, env=env, stdout=out, stderr=err)
        try:
            code = process.wait(120)
        finally:
            process.kill()
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode())
    return subprocess.CompletedProcess(command, code, *said)


def _be(command: list[str], folder: str, environment: dict[str, str], out: int, err: int) -> None:
    """Be `python COMMAND ...`: a script, or `-m` and a module, or `-c` and code."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    tempfile.tempdir = None  # was looked up by an import, for another folder
    for stream, number in ((out, 1), (err, 2)):
        os.dup2(stream, number)
        os.close(stream)
    if command[0] == "-c":
        sys.argv = ["-c", *command[2:]]
        exec(compile(command[1], "<string>", "exec"), {"__name__": "__main__"})
    elif command[0] == "-m":
        sys.argv = command[1:]
        sys.path.insert(0, folder)
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        sys.path.insert(0, str(Path(command[0]).parent))
        runpy.run_path(command[0], run_name="__main__")
