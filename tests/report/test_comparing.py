"""Held-out losses that compare, and what is said of those that do not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.report.comparing import apart, caveat, question
from gpuday.report.load import load_run

Ask = Callable[..., Path]


@pytest.fixture
def ask(new_run: Callable[..., Path]) -> Ask:
    """Writes a run with the indexes of its held-out text."""

    def write(
        name: str,
        *,
        tokenizer: str = "t",
        shard: str = "s",
        length: int = 128,
        text: str = "w",
        normalizer: str = "light",
        **changes: Any,
    ) -> Path:
        run = new_run(name, **changes)
        tokens = {"vocabulary": tokenizer, "length": length, "shards": [{"xxh3": shard}]}
        words = {"text_fingerprint": text, "normalizer": normalizer}
        for store, index in (("heldout.tok", tokens), ("heldout.words", words)):
            (run / "data" / store).mkdir(parents=True)
            (run / "data" / store / "index.json").write_text(json.dumps(index))
        return run

    return write


def told(folder: Path) -> dict[str, str]:
    return apart([load_run(run, points=2) for run in sorted(folder.iterdir())])


def test_runs_that_were_asked_the_same_compare(tmp_path: Path, ask: Ask) -> None:
    """Nothing is said of them, nor of a run alone."""
    ask("a")
    assert told(tmp_path) == {}
    ask("b")
    assert told(tmp_path) == {}


def test_another_question_is_named_beside_the_run_that_has_the_usual_one(tmp_path: Path, ask: Ask) -> None:
    """What most were asked is the usual one; whether word bits compare all the same is said, too."""
    ask("a", tokenizer="u", shard="x")
    ask("b")
    ask("c")
    ask("d", tokenizer="v", shard="y", normalizer="crammed")
    ask("e", shard="z", length=512)
    ask("f", shard="q", text="other")
    assert told(tmp_path) == {
        "a": "another tokenizer than b; word bits compare",
        "d": "another tokenizer than b; word bits do not compare either",
        "e": "rows of 512 tokens, not of 128 as b; word bits compare",
        "f": "other held-out text than b; word bits do not compare either",
    }


def test_a_loss_of_another_model_or_another_position_compares_with_none(tmp_path: Path, ask: Ask) -> None:
    """In the words of its objective, before the colon; it is not what others are measured by, however many there are."""
    notes = ["the held-out loss is the generator's: the model itself tells", "tokens are predicted from before: so"]
    heldout = {"nats_per_token": 4.0, "notes": notes}
    for name in ("a", "b"):
        ask(name, tokenizer="u", summary={"heldout": heldout})
    ask("c")
    said = "the held-out loss is the generator's; tokens are predicted from before"
    assert caveat(load_run(tmp_path / "a")) == said
    assert told(tmp_path) == dict.fromkeys(("a", "b"), f"{said}; another tokenizer than c; word bits compare")


def test_a_run_without_a_loss_is_left_out(tmp_path: Path, ask: Ask) -> None:
    """There is nothing to compare."""
    ask("a")
    (ask("b", tokenizer="u", summary={"heldout": None}) / "journal.jsonl").unlink()
    assert told(tmp_path) == {}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"vocabulary": "t", "length": [], "shards": 5}'])
def test_a_question_that_cannot_be_read_is_not_known(tmp_path: Path, ask: Ask, damage: str) -> None:
    """Data that is gone or damaged: said of the run, and no fault of the list."""
    ask("a")
    index = ask("b") / "data" / "heldout.tok" / "index.json"
    index.write_text(damage) if damage else index.unlink()
    assert question(load_run(tmp_path / "b")) is None
    assert told(tmp_path) == {"b": "its data is gone, and with it what it was asked"}
