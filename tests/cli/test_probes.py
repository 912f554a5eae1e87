"""Probes from the command line: checked before, written beside those of other files, and shown."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gpuday.cli import probes
from gpuday.cli.flags import TaskFlags
from gpuday.cli.screen import Screen
from gpuday.core.errors import DataError
from gpuday.core.rundir import RunDir, read_json

GROUP = {"accuracy": 0.5, "interval": {"low": 0.4, "high": 0.6}, "n": 10, "ties": 0}
PERPLEXITY = {"file": "a.txt", "pseudo_perplexity": 9.0, "nats_per_token": 2.2, "word_bits_per_byte": None,
              "model_hash": "m", "interval": {"low": 8.0, "high": 10.0, "method": "percentile, documents", "n": 40}}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """(variant, folder) of every set of pairs that was asked; the answers are made up."""
    calls: list[tuple[str, Path]] = []

    def answer(subject: object, path: Path, *, variant: str, folder: Path, progress: object) -> dict[str, Any]:
        calls.append((variant, folder))
        return {**GROUP, "name": path.stem, "variant": variant, "terms": {}, "model_hash": "m",
                "paradigms": {"agreement": GROUP}}  # fmt: skip

    monkeypatch.setattr(probes, "pairs_section", answer)
    monkeypatch.setattr(probes, "perplexity_section", lambda *_, **__: PERPLEXITY)
    return calls


def test_probes_are_added_to_those_of_before(
    tmp_path: Path, asked: list[tuple[str, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Pairs by name and variant, and one text; each as a table or a line on the screen."""
    place, screen = RunDir(tmp_path), Screen(as_json=True)
    place.update_summary(seed=3)
    subject: Any = SimpleNamespace(model_hash="m")
    for flags in (TaskFlags(pairs=Path("a.jsonl")), TaskFlags(pairs=Path("a.jsonl"), pll="original")):
        probes.probe(place, subject, flags, screen)
    probes.probe(place, subject, TaskFlags(perplexity=Path("a.txt")), screen)
    probes.probe(place, subject, TaskFlags(), screen)
    summary = read_json(place.summary)
    assert summary["seed"] == 3
    assert list(summary["probes"]) == ["a-within_word_l2r", "a-original", "perplexity-a.txt"]
    assert summary["probes"]["perplexity-a.txt"] == PERPLEXITY
    assert asked == [("within_word_l2r", tmp_path / "probes"), ("original", tmp_path / "probes")]
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["pairs"] for row in rows if "pairs" in row] == ["agreement", "all"] * 2
    assert rows[-1]["event"] == "perplexity" and rows[-1]["pseudo_perplexity"] == 9.0
    assert (rows[-1]["low"], rows[-1]["high"], rows[-1]["over"]) == (8.0, 10.0, "40 documents")


def test_why_there_is_no_interval_is_told(
    tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In place of its ends."""
    none = {**PERPLEXITY, "interval": None, "no_interval": "too few"}
    monkeypatch.setattr(probes, "perplexity_section", lambda *_, **__: none)
    subject, place = SimpleNamespace(model_hash="m"), RunDir(tmp_path)
    place.update_summary(seed=3)
    probes.probe(place, cast(Any, subject), TaskFlags(perplexity=Path("a.txt")), Screen(as_json=True))
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["no_interval"] == "too few" and "low" not in line


def test_probes_of_other_weights_are_dropped(tmp_path: Path, asked: list[Any]) -> None:
    """A summary speaks of one model; those of another file stay."""
    place = RunDir(tmp_path)
    old = {"perplexity-b.txt": {"model_hash": "m"}, "x-original": {"model_hash": "n"}, "perplexity": {}}
    place.update_summary(probes=old)
    subject: Any = SimpleNamespace(model_hash="m")
    probes.probe(place, subject, TaskFlags(perplexity=Path("a.txt")), Screen(as_json=True))
    assert list(read_json(place.summary)["probes"]) == ["perplexity-b.txt", "perplexity-a.txt"]


def test_pairs_and_text_are_looked_at_before_anything_is_asked(tmp_path: Path) -> None:
    """A file that is not there, and one that holds no pairs."""
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no pairs"):
        probes.check_probes(TaskFlags(pairs=tmp_path / "empty.jsonl"))
    with pytest.raises(DataError, match="is not there"):
        probes.check_probes(TaskFlags(perplexity=tmp_path / "none.txt"))
    probes.check_probes(TaskFlags())
