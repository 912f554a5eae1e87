"""Habits: every translation leads to something that is there."""

import pytest

from gpuday import presets
from gpuday.cli import COMMANDS as OURS
from gpuday.cli.habits import COMMANDS, KEYS, flag_meant, key_meant
from gpuday.cli.usage import flags_of
from gpuday.core import config
from gpuday.core.clock import Budget

DAY = Budget.parse("24h")
PATHS = {path for name in presets.names() for path in config.paths(presets.find(name)("nano", DAY))}


@pytest.mark.parametrize("word", KEYS)
def test_every_key_and_flag_that_is_named_is_there(word: str) -> None:
    """A key of some preset's recipe, a flag of `run`, or a sentence."""
    there = KEYS[word].partition(",")[0]
    if there.startswith("--"):
        assert there in flags_of("run")
    elif " " not in there:
        assert there in PATHS
    assert f"--{word.replace('_', '-')}" not in flags_of("run")


def test_every_command_that_is_named_is_there() -> None:
    """And no word of the table is one of ours."""
    assert {c for c in COMMANDS.values() if not c.startswith("--")} <= set(OURS)
    assert not COMMANDS.keys() & OURS.keys()


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--lr", "here it is --set optimizer.lr=..."),
        ("--Learning-Rate", "here it is --set optimizer.lr=..."),
        ("--output_dir", "here it is --out"),
        ("--epochs", "here it is --budget, in time, tokens or steps: --budget 24h"),
        ("--resume", "not needed: the same command again resumes"),
        ("--frobnicate", ""),
    ],
)
def test_a_flag_is_said_as_it_is_typed_here(flag: str, said: str) -> None:
    """With --set before a key; nothing for a word that no table has."""
    assert flag_meant(flag) == said


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("lr", "here it is optimizer.lr"),
        ("optimizer.learning_rate", "here it is optimizer.lr"),
        ("train.epochs", "here it is --budget, in time, tokens or steps: --budget 24h"),
        ("train.frobnicate", ""),
    ],
)
def test_a_key_is_known_by_its_last_name(key: str, said: str) -> None:
    """Whatever table it was put into."""
    assert key_meant(key) == said
