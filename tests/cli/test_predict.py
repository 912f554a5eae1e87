"""`gpuday predict`: a file of rows in, a file of answers out."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.cli import predict
from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.tasks.task import Kind
from tiny_models import write_model
from tuned import Kept, keep_one

Call = Callable[..., Any]


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[Kind], Kept]:
    """A toy model of a kind, kept."""

    def make(kind: Kind) -> Kept:
        subject = subject_of_folder(write_model(tmp_path / "encoder", "bert"), tmp_path / "scores")
        return keep_one(tmp_path / "kept", subject, kind)

    return make


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_answers_are_those_beside_the_model(
    call: Call, keep: Callable[[Kind], Kept], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dev rows from a CSV of the user's own columns give the kept predictions, labels left out; read in parts, the
    same labels."""
    kept = keep("classification")
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        csv.writer(file).writerows([["stars", "review"], *([3, text] for text in kept.data.dev.text_a)])
    done = call("predict", "kept", "rows.csv", "--out", "out.jsonl", "--text", "review")
    assert (done.code, done.kinds()[-1], done.events[-1]["rows"]) == (0, "predict", 9)
    beside = [{k: v for k, v in row.items() if k != "label"} for row in read(kept.folder / "predictions.jsonl")]
    assert read(tmp_path / "out.jsonl") == beside
    monkeypatch.setattr(predict, "ROWS", 4)
    assert call("predict", "kept", "rows.csv", "--out", "out.csv", "--text", "review").code == 0
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prediction"] for row in rows] == [row["prediction"] for row in beside]
    assert [row["number"] for row in rows] == [str(i) for i in range(1, 10)]
    assert json.loads(rows[0]["probabilities"]).keys() == {"mango", "zebra"}


def test_the_columns_are_those_that_it_was_trained_on(call: Call, keep: Callable[[Kind], Kept], tmp_path: Path) -> None:
    """Nothing is to be said again; a task of two texts names two columns, and no fewer."""
    kept = keep("regression")
    rows = zip(kept.data.dev.text_a, kept.data.dev.text_b or (), strict=True)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text_a": a, "text_b": b}) + "\n" for a, b in rows))
    assert call("predict", "kept", "rows.jsonl", "--out", "out.jsonl").code == 0
    wanted = [row["prediction"] for row in read(kept.folder / "predictions.jsonl")]
    assert [row["prediction"] for row in read(tmp_path / "out.jsonl")] == wanted
    done = call("predict", "kept", "rows.jsonl", "--out", "out.jsonl", "--text", "text_a")
    assert done.code == 2 and "has 2 texts a row, not 1" in done.err


def test_ids_come_back_and_a_row_without_text_stops_no_other(
    call: Call, keep: Callable[[Kind], Kept], tmp_path: Path
) -> None:
    """Its answer is empty, a notice names its line, and the exit code is 0; the others are answered as without it."""
    keep("classification")
    (tmp_path / "rows.csv").write_text("id,text_a\nx1,the zebra\nx2,\nx3,a mango\n")
    (tmp_path / "whole.csv").write_text("idx,text_a\nx1,the zebra\nx3,a mango\n")
    done = call("predict", "kept", "rows.csv", "--out", "out.jsonl")
    assert (done.code, done.events[-1]["rows"], done.events[-1]["unanswered"]) == (0, 3, 1)
    (notice,) = (event["message"] for event in done.events if event["event"] == "notice")
    assert notice == "1 row has no text, and so no answer: line 3"
    first, empty, third = read(tmp_path / "out.jsonl")
    assert empty == {"number": 2, "id": "x2", "prediction": None}
    assert call("predict", "kept", "whole.csv", "--out", "whole.jsonl").code == 0
    assert [first, {**third, "number": 2}] == read(tmp_path / "whole.jsonl")
    assert call("predict", "kept", "rows.csv", "--out", "out.csv").code == 0
    with open(tmp_path / "out.csv", newline="") as file:
        assert [(row["id"], bool(row["prediction"])) for row in csv.DictReader(file)] == [
            ("x1", True),
            ("x2", False),
            ("x3", True),
        ]


def test_words_are_tagged(call: Call, keep: Callable[[Kind], Kept], tmp_path: Path) -> None:
    """A word a line, without tags."""
    kept = keep("tagging")
    (tmp_path / "rows.conll").write_text("\n\n".join("\n".join(words) for words in kept.data.dev.words or ()))
    assert call("predict", "kept", "rows.conll", "--out", "out.jsonl").code == 0
    assert [len(row["prediction"]) for row in read(tmp_path / "out.jsonl")] == [
        len(w) for w in kept.data.dev.words or ()
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["kept", "rows.txt", "--out", "out.xlsx"], 2, "end its name in .jsonl or .csv"),
        (["kept", "rows.csv", "--out", "rows.csv"], 2, "take the place of the rows"),
        (["kept", "rows.txt", "--out", "no/where.csv"], 2, "a folder that is there"),
        (["nothing", "rows.txt", "--out", "out.csv"], 3, "nothing is not a folder"),
        (["encoder", "rows.txt", "--out", "out.csv"], 3, "is not a kept model"),
        (["kept", "none.csv", "--out", "out.csv"], 3, "none.csv is not there"),
        (["kept", "rows.csv", "--out", "out.csv"], 2, "no column 'text_a'; it has review"),
        (["kept", "empty.csv", "--out", "out.csv", "--text", "a"], 3, "none of the 2 rows has a text"),
        (["kept", "torn.csv", "--out", "out.csv", "--text", "a"], 3, "2 columns, the first line 1"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    call: Call, keep: Callable[[Kind], Kept], tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    """Usage ends with 2, files that cannot be used with 3; an older file of answers stays as it was, and no part of a new
    one is left."""
    if "kept" in arguments:
        keep("classification")
    else:
        (tmp_path / "encoder").mkdir()
    (tmp_path / "rows.txt").write_text("one\n")
    (tmp_path / "rows.csv").write_text("review\none\n")
    (tmp_path / "torn.csv").write_text("a\n" + "one\n" * 5 + "one,two\n")
    (tmp_path / "empty.csv").write_text('a\n""\n" "\n')
    (tmp_path / "out.csv").write_text("older")
    done = call("predict", *arguments)
    assert done.code == code and says in done.err and "fix:" in done.err
    assert (tmp_path / "out.csv").read_text() == "older" and not list(tmp_path.glob(".*.tmp"))


def test_a_row_without_words_has_no_tags(call: Call, keep: Callable[[Kind], Kept], tmp_path: Path) -> None:
    """The others are tagged."""
    keep("tagging")
    (tmp_path / "rows.jsonl").write_text('{"words": ["the", "fox"]}\n{"words": []}\n{"words": ["it"]}\n')
    done = call("predict", "kept", "rows.jsonl", "--out", "out.jsonl")
    assert done.code == 0 and "no answer: line 2" in done.out
    first, empty, third = (row["prediction"] for row in read(tmp_path / "out.jsonl"))
    assert (len(first), empty, len(third)) == (2, None, 1)
