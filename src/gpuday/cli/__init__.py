"""The command line. Commands are imported when they are called, so that `gpuday --help` never loads torch."""

import contextlib
import errno
import importlib
import os
import sys

from cyclopts import App, CycloptsError

from gpuday import __version__
from gpuday.cli.leaving import Leaving
from gpuday.cli.screen import Output, show_error
from gpuday.core.errors import DONE, FULL, EnvironmentFault, FitError, GpudayError, UsageError
from gpuday.core.launched import leads

app = App(
    name="gpuday",
    help="Text in, a fixed amount of time on one device, the best encoder out, with the evidence.",
    version=__version__,
    help_format="plaintext",  # the reader of Markdown takes a fifth of the time that --help takes
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
COMMANDS = {
    "run": "Prepare, train, evaluate, export and report. The same command again resumes.",
    "prepare": "Read the corpus, train the tokenizer, pack tokens.",
    "train": "Prepare if needed, and train until the budget is used.",
    "evaluate": "Score a trained run, or any encoder in a Hugging Face folder: downstream tasks and probes.",
    "predict": "Answer the rows of a file with a fine-tuned model that was kept.",
    "export": "Write a trained run as a Hugging Face folder, with its parity checked.",
    "report": "Write a run's report.html.",
    "replay": "Make a finished run's steps again, which takes as long as it did, and compare the weights to the bit.",
    "compare": "Models side by side: scores, means over tasks, ranks, and how sure their order is.",
    "list": "Runs in a folder; or, given a kind, the parts, presets and sizes there are.",
    "show": "The recipe of a preset, or the record of a run.",
    "doctor": "What this machine has and can do, and what to mend before a run.",
}
for _name, _help in COMMANDS.items():
    app.command(f"gpuday.cli.commands:{'list_' if _name == 'list' else _name}", name=_name, help=_help)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: runs a command, shows an error for people, exits with the documented code.

    Without `arguments` they are those of this process, which then ends with the command whatever a signal meets.
    """
    tokens = sys.argv[1:] if arguments is None else arguments
    leaving = Leaving(tokens, owns=arguments is None)
    try:
        with leaving:
            code = _call(tokens)
    except (Exception, KeyboardInterrupt) as error:
        interruption = leaving.error(error)
        if "--debug" in tokens and interruption is None:
            raise
        known = interruption or _for_people(error)
        if leaving.claim() and (interruption is None or leads()):
            with contextlib.suppress(OSError):  # the terminal went away, which may be why this ends
                show_error(known)
        code = known.exit_code
    leaving.end(code)


def _call(tokens: list[str]) -> int:
    """Run a command; its exit code, where it raises no error."""
    try:
        app(tokens, console=Output(), print_error=False, exit_on_error=False)
    except CycloptsError as error:
        usage = importlib.import_module("gpuday.cli.usage")  # which loads all flags, and `--help` does without
        show_error(usage.explain(error))
        return UsageError.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away: no traceback at exit
    return DONE


def _for_people(error: BaseException) -> GpudayError:
    """The error as one that names its fix, with the exit code of its kind."""
    if isinstance(error, GpudayError):
        return error
    if isinstance(error, OSError) and error.errno in (*FULL, errno.EROFS):
        return EnvironmentFault(
            f"{error.filename or 'a file'} cannot be written: {error.strerror}",
            fix="make room, or give another folder with --out; the last checkpoint is intact",
        )
    if isinstance(error, OSError) and error.filename:
        return EnvironmentFault(
            f"{error.filename}: {error.strerror}",
            fix="check the path and who may write there; the cache is moved with the variable GPUDAY_CACHE",
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return FitError(f"out of memory: {error}", fix="choose a smaller --size, or set train.microbatch to fewer rows")
    return GpudayError(f"{type(error).__name__}: {error}", fix="run again with --debug and report the traceback")
