"""What lies beside the score files is read only for the fine-tuning that it was written for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpuday.evaluate.protocols import P1, P2
from gpuday.evaluate.resume import (
    hash_rows,
    read_answers,
    read_start,
    read_trials,
    write_answers,
    write_start,
    write_trials,
)
from gpuday.evaluate.tasks import Rows

MINE: dict[str, Any] = {"task": "RTE", "seed": 0, "start": None}
OTHER = {**MINE, "seed": 1}


def test_trials_are_found_by_their_setting(tmp_path: Path) -> None:
    """Each with its value; those of another sweep, and what was never tried, are not."""
    path, settings = tmp_path / "sweep" / "trials.json", P2.settings("RTE")
    assert read_trials(path, MINE, settings) == {}
    write_trials(path, MINE, {settings[0]: 0.25, settings[5]: 0.75, settings[6]: None})
    assert read_trials(path, MINE, settings) == {settings[0]: 0.25, settings[5]: 0.75, settings[6]: None}
    assert read_trials(path, MINE, [replace(P1, lr=1.0)]) == {}
    assert read_trials(path, OTHER, settings) == {}


def test_answers_of_every_kind_come_back_as_they_were(tmp_path: Path) -> None:
    """Classes, numbers and words; not where the rows are other ones."""
    path = tmp_path / "test" / "0.json"
    answers = {"a": np.array([1, 0, 2]), "b": np.array([0.5, 4.75]), "c": ("", "in 1990")}
    write_answers(path, MINE, answers)
    found = read_answers(path, MINE, {"a": 3, "b": 2, "c": 2})
    assert found is not None and found["c"] == answers["c"]
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[name], answers[name])
        assert found[name].dtype == answers[name].dtype  # type: ignore[union-attr]
    assert read_answers(path, OTHER, {"a": 3, "b": 2, "c": 2}) is None
    assert read_answers(path, MINE, {"a": 4, "b": 2, "c": 2}) is None
    path.write_text("{")
    assert read_answers(path, MINE, {"a": 3}) is None


def test_an_encoder_to_start_from_is_the_same_to_the_bit(tmp_path: Path) -> None:
    """Tensors that share memory too; none of another fine-tuning, and none from a torn file."""
    path, whole = tmp_path / "0.safetensors", torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    write_start(path, MINE, {"whole": whole, "part": whole[:2].T})
    found = read_start(path, MINE)
    assert found is not None
    assert torch.equal(found["whole"], whole) and torch.equal(found["part"], whole[:2].T)
    assert read_start(path, OTHER) is None
    path.write_bytes(path.read_bytes()[:-5])
    assert read_start(path, MINE) is None
    assert read_start(tmp_path / "none.safetensors", MINE) is None


@pytest.mark.parametrize("text", ["[]", '{"identity": 1}'])
def test_a_file_of_another_shape_holds_nothing(tmp_path: Path, text: str) -> None:
    """It is made anew."""
    (tmp_path / "x.json").write_text(text)
    assert read_trials(tmp_path / "x.json", MINE, P2.settings("RTE")) == {}


def test_rows_are_told_apart_by_all_that_is_asked() -> None:
    """Texts, candidates, words, their order and the name of the set; not their labels, which nobody has."""
    rows = Rows(
        text_a=("a", "b"), text_b=("c", "d"), options=(("e", "f"), ("g", "h")), words=(("i",), ("j",)), labels=None
    )
    order = np.array([1, 0])
    others = [
        rows.take(order),
        *(replace(rows, **{k: getattr(rows, k)[::-1]}) for k in ("text_a", "text_b", "options", "words")),
    ]
    hashes = [hash_rows({"RTE": rows}), hash_rows({"AX": rows}), *(hash_rows({"RTE": other}) for other in others)]
    assert len(set(hashes)) == len(hashes) == 7
    assert hash_rows({"RTE": replace(rows, labels=order, words=None)}) == hash_rows({"RTE": replace(rows, words=None)})
