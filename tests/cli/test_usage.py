"""Usage errors: three lines in our words for everything that the parser of the command line refuses."""

from collections.abc import Callable
from typing import Any

import pytest

from gpuday.cli import COMMANDS
from gpuday.cli.usage import flags_of

Call = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "err"),
    [
        (["run", "--budgte", "1m"], "Unknown option --budgte\n  where: gpuday run\n  fix:   did you mean --budget?"),
        (["run", "--budgte=1m"], "Unknown option --budgte\n  where: gpuday run\n  fix:   did you mean --budget?"),
        (["rnu"], 'Unknown command "rnu"\n  where: gpuday\n  fix:   did you mean run?'),
        (["run", "--json=maybe"], "--json is 'maybe'\n  where: --json\n  fix:   give nothing, or true or false"),
        (["evaluate"], "evaluate needs RUN\n  where: gpuday evaluate\n  fix:   gpuday evaluate RUN, or --run RUN"),
        (
            ["predict", "K", "new.csv"],
            "predict needs --out OUT\n  where: gpuday predict\n  fix:   gpuday predict FOLDER FILE --out OUT",
        ),
        (
            ["predict", "K", "--out", "a.csv"],
            "predict needs FILE\n  where: gpuday predict\n  fix:   gpuday predict FOLDER FILE --out OUT",
        ),
        (
            ["run", "--documents", "lnie"],
            "--documents is 'lnie'\n  where: --documents\n  fix:   did you mean 'line'? (one of blank, line, file)",
        ),
        (
            ["run", "--size"],
            "--size has no value\n  where: gpuday run\n  fix:   write one behind it; see gpuday run --help",
        ),
        (["doctor", "x"], "'x' is one word too many"),
        (["run", "--sed", "1"], "Unknown option --sed\n  where: gpuday run\n  fix:   did you mean --seed or --set?"),
    ],
)
def test_an_error_of_the_parser_is_said_in_our_words(call: Call, arguments: list[str], err: str) -> None:
    """What, where and fix, as all other errors have them; exit code 2."""
    called = call(*arguments)
    assert called.code == 2
    assert called.err.startswith(f"error: {err}")


def test_nothing_near_gets_the_list(call: Call) -> None:
    """Of the command's own flags."""
    err = call("doctor", "--frobnicate").err
    assert all(flag in err for flag in flags_of("doctor"))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_flags_of_a_command_are_those_of_its_help(call: Call, command: str) -> None:
    """What suggestions are drawn from is what there is."""
    shown = call(command, "--help").out
    assert [flag for flag in flags_of(command) if flag not in shown.lower()] == []


def test_control_characters_of_a_command_line_do_not_reach_the_terminal(call: Call) -> None:
    """A shell may have put a file's name there."""
    err = call("run", "--x\x1b[2J\x07", "1").err
    assert "\x1b" not in err and "\x07" not in err
