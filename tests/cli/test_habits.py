"""Habits: every translation leads to something that is there."""

import re

import pytest

from gpuday import presets
from gpuday.cli import COMMANDS as OURS
from gpuday.cli.habits import COMMANDS, KEYS, flag_meant, key_meant
from gpuday.cli.usage import flags_of
from gpuday.core import config
from gpuday.core.clock import Budget

DAY = Budget.parse("24h")
RECIPES = {name: presets.find(name)("nano", DAY) for name in presets.names()}
DOTTED = re.compile(r"\b[a-z_]+(?:\.[a-z_0-9]+)+\b(?:=[\w.]+)?")


@pytest.mark.parametrize("word", KEYS)
def test_every_key_and_flag_that_is_named_is_there(word: str) -> None:
    """A flag of `run`; a key that every preset's recipe has, or beside which the sentence names those that have it; and a
    value that is shown with a key is one that it takes."""
    there = KEYS[word]
    if there.startswith("--"):
        assert there.partition(",")[0] in flags_of("run")
    for key, _, value in (found.partition("=") for found in DOTTED.findall(there) if not found.endswith(".toml")):
        having = [name for name, recipe in RECIPES.items() if key in config.paths(recipe)]
        assert having, key
        if len(having) < len(RECIPES):
            (clause,) = (c for c in there.split(";") if key in re.split(r"[ =]", c))
            assert [name for name in RECIPES if name in clause] == having, key
        for name in having if value else ():
            config.replace_at(RECIPES[name], key, config.parse_value(value))
    assert f"--{word.replace('_', '-')}" not in flags_of("run")


@pytest.mark.parametrize(
    "word", ["gradient_accumulation_steps", "num_attention_heads", "save_steps", "eval_steps", "warmup_steps", "fp16"]
)
def test_another_quantity_is_no_plain_translation(word: str) -> None:
    """A number that means something else would be taken without a word."""
    assert "here it is" not in flag_meant(f"--{word}")


@pytest.mark.parametrize("word", ["warmup", "amp", "betas", "num_heads"])
def test_words_that_many_tools_have_are_known(word: str) -> None:
    """With one hyphen, two, or none."""
    assert flag_meant(f"--{word}") == flag_meant(word) != ""


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
        ("--dropout", "here it is --set model.dropout=..., which acts in pretraining with train.dropout=true"),
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
        ("dropout", "here it is model.dropout, which acts in pretraining with train.dropout=true"),
        ("train.frobnicate", ""),
    ],
)
def test_a_key_is_known_by_its_last_name(key: str, said: str) -> None:
    """Whatever table it was put into."""
    assert key_meant(key, config.paths(RECIPES["modern"])) == said


@pytest.mark.parametrize(
    ("preset", "key", "said"),
    [
        ("modern", "train.mlm_probability", "here it is objective.mlm.rate"),
        ("unrestricted", "mask_rate", "here it is objective.mlm.rate"),
        ("crammed", "mlm_probability", "here it is objective.rate"),
        ("modern", "betas", "here it is optimizer.rest.beta1 and optimizer.rest.beta2"),
        ("bert", "adam_beta1", "here it is optimizer.beta1 and optimizer.beta2"),
    ],
)
def test_of_several_keys_the_one_that_the_recipe_has_is_said(preset: str, key: str, said: str) -> None:
    """And not a list of presets, where it is known which of them is used; where it is not, that list."""
    assert key_meant(key, config.paths(RECIPES[preset])) == said
    assert said.removeprefix("here it is ") in key_meant(key, []) == flag_meant(key.rpartition(".")[2])
