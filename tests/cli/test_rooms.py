"""The rooms one by one, and the commands that only look."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday import presets
from gpuday.cli import rooms
from gpuday.cli.screen import Screen, escaped
from gpuday.core import config
from gpuday.core.clock import Budget
from gpuday.core.rundir import RunDir, read_json
from gpuday.models.encoder import EncoderConfig
from gpuday.presets.sizes import LADDER, SIZES
from gpuday.recipe import KINDS

Call = Callable[..., Any]


def test_the_presets_are_listed_with_what_they_are(call: Call) -> None:
    """All of them, by the first line of their docstring."""
    rows = call("list", "presets").events
    assert [row["preset"] for row in rows] == presets.names() == ["bert", "crammed", "crammed_v1", "izsak", "modern"]
    assert all(len(row["what"]) > 20 for row in rows)


def test_the_sizes_are_listed_with_their_figures(call: Call) -> None:
    """From small to large, and after them the paper's outlines."""
    rows = call("list", "sizes").events
    assert [row["size"] for row in rows] == list(SIZES)
    assert [row["width"] for row in rows[: len(LADDER)]] == sorted(size.width for size in LADDER.values())


def test_the_parts_of_a_kind_are_listed(call: Call) -> None:
    """`gpuday list optimizer`, and all kinds at once."""
    rows = call("list", "optimizer").events
    assert {"adamw", "muon"} <= {row["part"] for row in rows}
    assert {row["kind"] for row in rows} == {"optimizer"}
    everything = call("list", "parts").events
    assert {row["kind"] for row in everything} == set(KINDS)
    assert all(row["what"] for row in everything)


def test_a_part_is_listed_with_its_knobs_and_its_papers(call: Call) -> None:
    """Defaults by name, as they go into a recipe, and where each part is from."""
    (adamw,) = (row for row in call("list", "optimizer").events if row["part"] == "adamw")
    assert adamw["knobs"] == {"lr": 1e-3, "beta1": 0.9, "beta2": 0.98, "eps": 1e-12, "weight_decay": 0.01}
    assert adamw["source"] == ["arXiv 1711.05101"]
    (muon,) = (row for row in call("list", "optimizer").events if row["part"] == "muon")
    assert muon["knobs"]["rest"] == "adamw"
    papers = {row["part"]: row["source"] for row in call("list", "parts").events if row["kind"] != "source"}
    assert [part for part, source in papers.items() if not source] == []


def test_a_users_own_part_is_listed_like_the_others(call: Call, tmp_path: Path) -> None:
    """Its file is read for its docstrings; the part of the contributor's guide."""
    guide = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text()
    (tmp_path / "signum.py").write_text(guide.partition("```python\n")[2].partition("```")[0])
    rows = call("list", "optimizer", "--part", "signum.py").events
    (mine,) = (row for row in rows if row.get("part") == "signum")
    assert mine["what"] == "One rate for everything, no weight decay."
    assert (mine["knobs"], mine["source"]) == ({"lr": 1e-3, "momentum": 0.9}, ["arXiv 1802.04434"])


def test_the_axes_of_a_model_are_listed_with_their_values(call: Call) -> None:
    """Every field of the encoder's config: its default, what it can be, and its line of documentation."""
    rows = {row["axis"]: row for row in call("list", "axes").events}
    assert list(rows) == [field.name for field in dataclasses.fields(EncoderConfig)]
    assert all(row["what"] for row in rows.values())
    assert rows["placement"]["values"] == ["pre", "post", "sandwich", "deepnorm"]
    assert (rows["tied"]["default"], rows["tied"]["values"]) == (True, [False, True])
    assert (rows["width"]["default"], rows["width"]["values"]) == (256, "whole number")
    assert rows["mixer"]["default"] == "softmax" and "fourier" in rows["mixer"]["values"]


def test_what_is_listed_can_be_read_by_people(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal knobs stand as name and value, in the words of `--set`."""
    shown: list[list[dict[str, Any]]] = []
    monkeypatch.setattr(Screen, "table", lambda self, title, rows: shown.append(rows))
    with Screen(as_json=True) as screen:
        screen.as_json = False
        monkeypatch.setattr(rooms, "Screen", lambda **_: contextlib.nullcontext(screen))
        rooms.list_command("average")
        rooms.list_command("axes")
    averages, axes = shown
    (lawa,) = (row for row in averages if row["part"] == "lawa")
    assert lawa["knobs"].startswith("k 5, every ") and lawa["knobs"].endswith("on_cpu false")
    assert lawa["source"] == "arXiv 2209.14981"
    assert {row["axis"]: row["values"] for row in axes}["norm"] == "layernorm, rmsnorm, scalenorm"


def test_runs_are_listed_by_folder(call: Call, tmp_path: Path) -> None:
    """A prepared run is there, not yet started; a folder without runs, and no folder at all, give an empty list."""
    assert call("list").events == call("list", "runs").events == []
    call("prepare", "tiny.toml", "--out", "runs/mine")
    (row,) = call("list").events
    assert (row["name"], row["preset"], row["status"]) == ("mine", "modern", "not started")
    assert call("list", str(tmp_path / "runs")).events == [row]


def show(call: Call, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """What `gpuday show` prints as the record."""
    printed: list[str] = []
    monkeypatch.setattr(Screen, "document", lambda self, value: printed.append(escaped(value)))
    assert call("show", *arguments).code == 0
    return json.loads(printed[-1])


def test_a_preset_is_shown_with_the_flags_applied(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolved recipe, from which the same recipe can be made."""
    record = show(call, monkeypatch, "modern", "--size", "nano", "--budget", "10m", "--set", "optimizer.lr=0.5")
    wanted = presets.find("modern")("nano", Budget.parse("10m"))
    assert record == config.to_dict(config.replace_at(wanted, "optimizer.lr", 0.5))


def test_a_run_is_shown_by_its_record(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name and state first."""
    call("prepare", "tiny.toml", "--out", "runs/mine")
    record = show(call, monkeypatch, "runs/mine")
    assert (record["name"], record["status"], record["size"]) == ("mine", "not started", "nano")


def test_the_rooms_one_by_one_make_what_run_makes(call: Call, tmp_path: Path) -> None:
    """prepare, train, evaluate, export, report: each exit code 0, and the run is whole."""
    run = tmp_path / "runs" / "mine"
    for command in ("prepare", "train"):
        assert call(command, "tiny.toml", "--out", "runs/mine").code == 0
    assert not (run / "model").exists() and not (run / "report.html").exists()
    assert read_json(run / "summary.json")["heldout"]["word_bits_per_byte"] is None
    assert call("evaluate", "runs/mine", "--tasks", "none").code == 0
    assert read_json(run / "summary.json")["heldout"]["word_bits_per_byte"] > 0
    assert call("export", "runs/mine").code == 0
    assert (run / "model" / "model.safetensors").exists()
    called = call("report", "runs/mine")
    assert called.code == 0 and called.events[-1]["event"] == "report"
    assert (run / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_run_that_is_not_trained_yet_says_so(call: Call, command: str) -> None:
    """Exit code 3, and what comes first."""
    call("prepare", "tiny.toml", "--out", "runs/mine")
    called = call(command, "runs/mine", *(("--tasks", "none") if command == "evaluate" else ()))
    assert called.code == 3
    assert "has no final weights" in called.err and "train it" in called.err


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_run_that_is_being_trained_is_left_alone(call: Call, tmp_path: Path, command: str) -> None:
    """Reading clears away what a kill left half-written, which may be a save in progress: refused, by its owner."""
    call("prepare", "tiny.toml", "--out", "runs/mine")
    saving = tmp_path / "runs" / "mine" / "checkpoints" / ".tmp-00000007-1"
    saving.mkdir(parents=True)
    with RunDir(tmp_path / "runs" / "mine").lock():
        called = call(command, "runs/mine", *(("--tasks", "none") if command == "evaluate" else ()))
    assert called.code == 2
    assert "in use by process" in called.err
    assert saving.exists()


@pytest.mark.parametrize("command", ["evaluate", "export", "report"])
def test_a_misspelt_run_is_named_and_not_made(call: Call, tmp_path: Path, command: str) -> None:
    """No folder appears where there was none."""
    called = call(command, "runs/mien")
    assert called.code == 3 and "runs/mien" in called.err
    assert not (tmp_path / "runs").exists()


def test_task_files_are_looked_at_before_anything_is_spent(call: Call, tmp_path: Path) -> None:
    """A run whose scores could never be made does not begin."""
    called = call("run", "tiny.toml", "--tasks", "cola", "--task-data", str(tmp_path / "none"), "--out", "runs/mine")
    assert called.code == 3
    assert not (tmp_path / "runs").exists()
