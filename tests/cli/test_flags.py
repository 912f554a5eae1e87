"""Flags: one table for all commands, one value for each flag, a preset anywhere among them."""

from pathlib import Path
from typing import Any

import pytest
from cyclopts import Token

from gpuday.cli import app
from gpuday.cli.flags import Flags, ScoreFlags, TaskFlags, whole
from gpuday.core.errors import UsageError

RUN = "gpuday.cli.run"


def parse(*tokens: str) -> dict[str, Any]:
    """The arguments a command would be called with."""
    _, bound, _ = app.parse_args(list(tokens), print_error=False, exit_on_error=False)
    return dict(bound.arguments)


@pytest.mark.parametrize("command", ["run", "prepare", "train"])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_the_preset_may_stand_anywhere(command: str, place: int) -> None:
    """Before, between and after flags: a flag never swallows more than its one value."""
    tokens = ["--corpus", "a.txt", "--budget", "10m"]
    tokens.insert(place, "crammed")
    arguments = parse(command, *tokens)
    assert arguments["preset"] == "crammed"
    assert (arguments["flags"].corpus, arguments["flags"].budget) == (("a.txt",), "10m")


def test_repeated_flags_add_up_in_order() -> None:
    """Sources and settings keep the order in which they were given."""
    flags = parse("run", "--corpus", "b", "--set", "x=1", "--corpus", "a", "--set", "x=2", "--heldout", "h")["flags"]
    assert (flags.corpus, flags.set, flags.heldout) == (("b", "a"), ("x=1", "x=2"), ("h",))


def test_every_flag_reaches_its_field() -> None:
    """Typed: numbers are numbers, paths are paths."""
    arguments = parse(
        *("run", "bert", "--corpus", "c", "--heldout", "h", "--documents", "line", "--budget", "1h", "--size", "base"),
        *("--tokenizer", "wordpiece", "--vocab", "640", "--out", "runs/x", "--seed", "3", "--set", "a=1"),
        *("--part", "p.py", "--tasks", "cola,rte", "--task-data", "d", "--task-seeds", "2", "--task-rows", "64"),
        *("--json", "--debug"),
    )
    assert arguments["flags"] == Flags(
        corpus=("c",),
        heldout=("h",),
        documents="line",
        budget="1h",
        size="base",
        tokenizer="wordpiece",
        vocab=640,
        out=Path("runs/x"),
        seed=3,
        set=("a=1",),
        part=(Path("p.py"),),
        json=True,
        debug=True,
    )
    assert arguments["tasks"] == TaskFlags(tasks="cola,rte", task_data=Path("d"), task_seeds=2, task_rows=64)


def test_every_flag_of_an_evaluation_reaches_its_field() -> None:
    """One's own task, shares of rows, probes and a submission; a switch takes no value."""
    arguments = parse(
        *("evaluate", "runs/x", "--task", "a.csv", "--text", "t", "--text-b", "u", "--label", "l", "--dev", "d.csv"),
        *("--protocol", "P2", "--pooling", "mean", "--train-fraction", "1,0.5", "--untrained", "--keep"),
        *("--pairs", "blimp"),
        *("--pll", "original", "--perplexity", "p.txt", "--submission", "s.zip", "--submission-fill", "--out", "o"),
    )
    assert arguments["tasks"] == ScoreFlags(
        task=Path("a.csv"),
        text="t",
        text_b="u",
        label="l",
        dev=Path("d.csv"),
        protocol="P2",
        pooling="mean",
        train_fraction="1,0.5",
        untrained=True,
        keep=True,
        pairs=Path("blimp"),
        pll="original",
        perplexity=Path("p.txt"),
        submission=Path("s.zip"),
        submission_fill=True,
        out=Path("o"),
    )


def test_nothing_given_is_nothing_chosen() -> None:
    """Every default is left to the recipe, so that a flag that was given can be told from one that was not."""
    flags = Flags()
    assert [getattr(flags, name) for name in ("documents", "budget", "size", "tokenizer", "vocab", "out", "seed")] == [
        None
    ] * 7
    assert flags.corpus == flags.heldout == flags.set == flags.part == ()
    assert not flags.json and not flags.debug


@pytest.mark.parametrize("command", ["evaluate", "export", "report", "list", "show"])
def test_every_command_knows_json_and_debug(command: str) -> None:
    """The two flags of them all."""
    arguments = parse(command, "something", "--json", "--debug")
    output = arguments["flags"] if command == "show" else arguments["output"]
    assert output.json and output.debug


@pytest.mark.parametrize("flag", ["--json", "--debug"])
def test_a_switch_has_no_opposite(flag: str) -> None:
    """`--no-json` would be a second way to say nothing."""
    with pytest.raises(Exception, match="Unknown option"):
        parse("run", flag.replace("--", "--no-"))


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), ("-1", -1), ("1_000", 1000), ("1.5", None), ("1e3", None), ("", None)]
)
def test_a_whole_number_is_taken_as_it_stands(text: str, number: int | None) -> None:
    """Nothing is rounded: a seed of 1.5 would be another's run."""
    token = Token(keyword="--seed", value=text)
    if number is None:
        with pytest.raises(UsageError, match="--seed is"):
            whole(int, [token])
    else:
        assert whole(int, [token]) == number
