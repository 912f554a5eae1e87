"""The entry point: documented exit codes, a sentence for people, and a traceback only for those who ask."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gpuday.cli
from gpuday import __version__
from gpuday.cli import COMMANDS, main
from gpuday.core.errors import DataError, EnvironmentFault, FitError, GpudayError, Interrupted, UsageError

Call = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("run", "--help"), ("list", "presets")])
def test_help_and_looking_succeed(call: Call, arguments: tuple[str, ...]) -> None:
    """Exit code 0, and something to read."""
    called = call(*arguments)
    assert called.code == 0
    assert called.out and not called.err


def test_the_help_names_every_command(call: Call) -> None:
    """With what it does."""
    out = call("--help").out
    assert all(name in out for name in COMMANDS)


def test_the_help_of_run_names_every_flag(call: Call) -> None:
    """The table of flags of the design, on one command."""
    out = call("run", "--help").out
    flags = "corpus heldout documents budget size tokenizer vocab out seed set part tasks task-data json debug"
    assert [flag for flag in flags.split() if f"--{flag}" not in out] == []


def test_the_version_is_the_packages(call: Call) -> None:
    """Plain, for scripts."""
    assert call("--version").out.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("frobnicate",), 'Unknown command "frobnicate"'),
        (("run", "--frobnicate", "1"), "Unknown option"),
        (("run", "--budgte", "1m"), "--budget"),
        (("run", "modrn"), "did you mean 'modern'?"),
        (("run", "--size", "nanoo"), "did you mean 'nano'?"),
        (("run", "--budget", "5parsecs"), "10m, 24h"),
        (("run", "--seed", "three"), "--seed"),
        (("run", "--seed", "-1"), "seed"),
        (("run", "--vocab", "1000"), "multiple of 64"),
        (("run", "--documents", "page"), "--documents"),
        (("run", "--set", "optimizer.lr"), "key=value"),
        (("run", "--set", "size=base"), "--size"),
        (("run", "--task-seeds", "0"), "1 seed or more"),
        (("run", "--task-rows", "1"), "rows or more"),
        (("run", "--set", "optimizer.momentun=1"), "did you mean 'optimizer.momentum'?"),
        (("run", "--set", "optimizer.lr=fast"), "optimizer.lr"),
        (("run", "missing.toml"), "missing.toml"),
        (("run", "--out", "a b"), "cannot name a run"),
        (("run", "--tasks", "colla"), "cola"),
        (("evaluate",), "--run"),
        (("list", "optimzer"), "did you mean 'optimizer'?"),
        (("show", "crammd"), "did you mean 'crammed'?"),
    ],
)
def test_a_wrong_command_ends_with_2_and_what_would_be_right(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """One error on standard error, naming the flag, the key or the nearest match; no run begins."""
    called = call(*arguments)
    assert called.code == 2
    assert said in called.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "tiny.toml", "--corpus", "no/such/text.txt"),
        ("prepare", "tiny.toml", "--corpus", "no/such/*.jsonl"),
        ("run", "tiny.toml", "--tokenizer", "no/such/tokenizer.json"),
        ("run", "tiny.toml", "--tasks", "cola", "--task-data", "no/such/folder"),
        ("evaluate", "no/such/run"),
        ("export", "no/such/run"),
        ("report", "no/such/run"),
    ],
)
def test_data_that_is_not_there_ends_with_3(call: Call, arguments: tuple[str, ...]) -> None:
    """The path is named, and what to do."""
    called = call(*arguments)
    assert called.code == 3
    assert "error: " in called.err and "no/such" in called.err and "fix: " in called.err


def fault(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(gpuday.cli, "app", fail)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (DataError("x"), 3),
        (FitError("x"), 4),
        (EnvironmentFault("x"), 5),
        (GpudayError("x"), 70),
        (Interrupted("x"), 75),
        (KeyboardInterrupt(), 75),
        (OSError(errno.ENOSPC, "No space left on device", "a"), 5),
        (OSError(errno.EROFS, "Read-only file system"), 5),
        (OSError(errno.EIO, "Input/output error"), 70),
        (MemoryError("12 GiB"), 4),
        (torch.OutOfMemoryError("12 GiB"), 4),
        (ValueError("x"), 70),
    ],
)
def test_each_kind_of_fault_has_its_exit_code(
    call: Call, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    """As the design lists them; a script tells them apart."""
    fault(monkeypatch, error)
    assert call("run").code == code


def test_a_full_disk_names_the_file_and_says_what_is_safe(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The likeliest fault of a long run."""
    fault(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "runs/a/journal.jsonl"))
    called = call("run")
    assert "runs/a/journal.jsonl cannot be written: No space left on device" in called.err
    assert "the last checkpoint is intact" in called.err


def test_a_termination_before_training_is_an_interruption(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch system may end a job while it prepares data: exit code 75, and a sentence."""
    monkeypatch.setattr(gpuday.cli, "app", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    called = call("prepare")
    assert called.code == 75
    assert "same command" in called.err


@pytest.mark.parametrize("arguments", [("list", "parts"), ("show", "modern"), ("--help",)])
def test_a_reader_that_goes_away_is_no_fault(arguments: tuple[str, ...]) -> None:
    """`gpuday list parts | head -1`: exit code 0, and nothing on standard error, whatever prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "gpuday", *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_an_unexpected_fault_names_itself_and_the_way_to_its_traceback(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours is not shown as a wall of text."""
    fault(monkeypatch, ZeroDivisionError("division by zero"))
    called = call("run")
    assert "ZeroDivisionError: division by zero" in called.err
    assert "--debug" in called.err


@pytest.mark.parametrize("error", [UsageError("x"), ZeroDivisionError("x")])
def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The exception passes, with all that Python says of it."""
    fault(monkeypatch, error)
    with pytest.raises(type(error)):
        main(["run", "--debug"])


def test_an_error_shows_what_where_and_fix(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three lines, in that order, and nothing on standard output."""
    fault(monkeypatch, DataError("no text", where="a.txt", fix="give text"))
    called = call("run")
    assert called.err == "error: no text\n  where: a.txt\n  fix:   give text\n"
    assert called.out == ""


def test_a_file_name_cannot_steer_the_terminal(call: Call) -> None:
    """An escape sequence in a path is shown as a replacement sign."""
    called = call("run", "tiny.toml", "--corpus", "no/such\x1b[2J\x07.txt")
    assert called.code == 3
    assert "\x1b" not in called.err and "\x07" not in called.err and "�" in called.err


def test_markup_in_a_file_name_is_text(call: Call) -> None:
    """Square brackets mean nothing to the screen."""
    assert "[red]no/such[/red].txt" in call("run", "tiny.toml", "--corpus", "[red]no/such[/red].txt").err


def test_help_never_loads_torch() -> None:
    """Looking up a flag takes no seconds: neither torch nor transformers is imported for help and version."""
    code = (
        "import sys, contextlib; from gpuday.cli import main\n"
        "for a in (['--help'], ['--version'], []):\n"
        "    with contextlib.suppress(SystemExit): main(a)\n"
        "sys.exit(bool({'torch', 'transformers', 'numpy', 'plotly'} & sys.modules.keys()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_the_package_runs_as_a_module() -> None:
    """`python -m gpuday` is the same command line."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "gpuday", "--version"]
    assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip() == __version__
