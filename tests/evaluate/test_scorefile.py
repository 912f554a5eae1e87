"""A score's file: typed, whole, and an answer to one question only."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from gpuday.evaluate.protocols import P1, P2, PROTOCOLS
from gpuday.evaluate.scorefile import (
    IDENTITY,
    Score,
    hyperparameters,
    is_older,
    read_score,
    suite_folder,
    surroundings,
    write_score,
)
from made_up_score import SCORE

ASKED = {key: asdict(SCORE)[key] for key in IDENTITY}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Equal in every field; nothing is read where nothing is."""
    assert read_score(tmp_path / "0.json", ASKED) is None
    write_score(tmp_path / "0.json", SCORE)
    assert read_score(tmp_path / "0.json", ASKED) == SCORE


@pytest.mark.parametrize("key", IDENTITY)
def test_another_question_is_not_answered(tmp_path: Path, key: str) -> None:
    """Whatever a score depends on tells two of them apart."""
    write_score(tmp_path / "0.json", SCORE)
    assert read_score(tmp_path / "0.json", {**ASKED, key: "another"}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"value": "0.5"},
        {"value": None},
        {"steps": 1.5},
        {"partial": 0},
        {"metrics": {"accuracy": "high"}},
        {"interval": 0.5},
        {"recipe_fingerprint": 7},
        {"more": 1},
    ],
)
def test_a_field_of_another_type_makes_no_score(tmp_path: Path, change: dict[str, Any]) -> None:
    """Nor does one that is not known, or that is missing: the score is then made anew."""
    path = tmp_path / "0.json"
    path.write_text(json.dumps({**asdict(SCORE), **change}))
    assert read_score(path, ASKED) is None
    path.write_text(json.dumps({k: v for k, v in asdict(SCORE).items() if k != "device"}))
    assert read_score(path, ASKED) is None


@pytest.mark.parametrize("text", ["", "[1]", '{"task": "RTE"', "null"])
def test_a_damaged_file_makes_no_score(tmp_path: Path, text: str) -> None:
    """It is no fault of the user's, and stops nothing."""
    (tmp_path / "0.json").write_text(text)
    assert read_score(tmp_path / "0.json", ASKED) is None


def test_every_field_says_what_it_is_or_is_named_by_it() -> None:
    """All that a number must carry is there: versions, rows, weights, seeds, device, seconds, environment."""
    needed = {"version", "data_hash", "model_hash", "protocol", "seed", "seconds", "environment", "device", "interval"}
    assert needed <= {f.name for f in fields(Score)}


def test_protocols_and_shares_have_folders_of_their_own() -> None:
    """P1's is the suite's."""
    assert suite_folder("glue", "P1") == "glue"
    assert suite_folder("glue", "P1-small") == "glue-P1-small"
    assert suite_folder("glue", "P1", 0.25) == "glue-fraction-0.25"
    assert suite_folder("glue", "P1", 1 / 3) != suite_folder("glue", "P1", 0.333333)


def test_hyperparameters_tell_all_protocols_apart_that_differ() -> None:
    """But the name, the cap on rows, the number of seeds and the pooling, which stand beside."""
    found = [json.dumps(hyperparameters(p)) for p in PROTOCOLS.values() if p.rows is None]
    assert len(set(found)) == len(found)
    assert hyperparameters(replace(P1, name="x", rows=5, seeds=1, pooling="mean")) == hyperparameters(P1)
    assert json.loads(json.dumps(hyperparameters(P2))) == hyperparameters(P2)


def test_the_surroundings_name_the_libraries_and_no_command() -> None:
    """What a score was computed with; what was typed stands in the run's own record."""
    found = surroundings("cpu")
    assert found["device"] == "cpu" and found["libraries"]["torch"] and "command" not in found


def test_a_score_of_another_version_is_known_as_such(tmp_path: Path) -> None:
    """With fewer fields, or more; one of today's, a torn file and none are not."""
    path, values = tmp_path / "0.json", asdict(SCORE)
    assert not is_older(path)
    for known, content in (
        (True, {key: value for key, value in values.items() if key != "start"}),
        (True, {**values, "later": 1}),
        (False, values),
        (False, [1]),
    ):
        path.write_text(json.dumps(content))
        assert is_older(path) == known
    path.write_text("{torn")
    assert not is_older(path)
