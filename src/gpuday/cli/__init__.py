"""The command line. Commands are imported when they are called, so that `gpuday --help` never loads torch."""

import os
import sys

from cyclopts import App, CycloptsError

from gpuday import __version__
from gpuday.cli.screen import show_error
from gpuday.core.errors import DONE, INTERNAL, GpudayError

app = App(
    name="gpuday",
    help="Text in, a fixed amount of time on one device, the best encoder out, with the evidence.",
    version=__version__,
    result_action="return_value",
)
COMMANDS = {
    "run": "Prepare, train, evaluate, export and report. The same command again resumes.",
    "prepare": "Read the corpus, train the tokenizer, pack tokens.",
    "train": "Prepare if needed, and train until the budget is used.",
    "evaluate": "Score a trained run: held-out words, fill-mask samples, downstream tasks.",
    "export": "Write a trained run as a Hugging Face folder, with its parity checked.",
    "report": "Write a run's report.html.",
    "list": "Runs in a folder; or, given a kind, the parts, presets and sizes there are.",
    "show": "The recipe of a preset, or the record of a run.",
}
for _name, _help in COMMANDS.items():
    _module = {"run": "run", "prepare": "run", "train": "run"}.get(_name, "rooms")
    app.command(f"gpuday.cli.{_module}:{_name}_command", name=_name, help=_help)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: runs a command, shows an error for people, exits with the documented code."""
    tokens = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in tokens
    try:
        app(tokens, print_error=True, exit_on_error=False)
    except CycloptsError:
        sys.exit(2)  # the message stands on the screen already
    except GpudayError as error:
        if debug:
            raise
        show_error(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away: no traceback at exit
        sys.exit(DONE)
    except KeyboardInterrupt:
        sys.exit(75)
    except Exception as error:
        if debug:
            raise
        show_error(
            GpudayError(f"{type(error).__name__}: {error}", fix="run again with --debug and report the traceback")
        )
        sys.exit(INTERNAL)
    sys.exit(DONE)
