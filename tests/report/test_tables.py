"""Runs as plain data."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuday.core.errors import DataError
from gpuday.report.tables import list_runs, show_run


def test_every_run_in_a_folder_is_a_row(tmp_path: Path, new_run: Callable[..., Path]) -> None:
    """By name, finished, interrupted, damaged; other folders and files are passed over."""
    new_run("b")
    new_run("a", final=False, summary={"scores": None, "heldout": None})
    (new_run("c") / "summary.json").write_text("{")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").touch()
    rows = list_runs(tmp_path, lambda recipe: [f"seed={recipe['seed']}"])
    assert [(row["name"], row["status"]) for row in rows] == [("a", "interrupted"), ("b", "finished"), ("c", "damaged")]
    assert rows[1] == {
        "name": "b", "preset": "modern", "size": "nano", "budget": "10 min", "used_seconds": 599.25, "nats_per_token": 4.127,
        "word_bits_per_byte": 2.013, "mean_scores": {"pydocs-P1": 0.7042}, "status": "finished", "changed": ["seed=7"],
        "not_comparable": None,
    }  # fmt: skip
    assert "summary.json" in rows[2]["problem"]
    assert rows[0].keys() == rows[1].keys() <= rows[2].keys()


def test_an_empty_folder_has_no_runs(tmp_path: Path) -> None:
    """And a missing one is an error."""
    assert list_runs(tmp_path, lambda _: None) == []
    with pytest.raises(DataError, match="not a folder"):
        list_runs(tmp_path / "none", lambda _: None)


def test_a_run_is_shown_as_json(run: Path) -> None:
    """Headline, sections, attempts, notes; the report's path once it is written."""
    shown = show_run(run)
    json.dumps(shown, allow_nan=False)
    assert shown["clock"]["used_seconds"] == 599.25
    assert shown["export"]["kind"] == "ModernBertForMaskedLM"
    assert (shown["attempts"], shown["steps_redone"], shown["samples"], shown["report"]) == (2, 6, 3, None)
    (run / "report.html").touch()
    assert show_run(run)["report"] == str(run / "report.html")


def test_a_damaged_run_cannot_be_shown(run: Path) -> None:
    """The list has a row for it; a question about it alone is answered with the fault."""
    (run / "recipe.json").write_text("{")
    with pytest.raises(DataError, match=r"recipe\.json"):
        show_run(run)
