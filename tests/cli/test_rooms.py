"""The rooms one by one, and the commands that only look."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday import presets
from gpuday.cli import listing, rooms
from gpuday.cli.screen import Screen, escaped
from gpuday.core import config, parts
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.core.rundir import RunDir, read_json
from gpuday.evaluate.protocols import PROTOCOLS
from gpuday.evaluate.tasks.selection import BY_NAME
from gpuday.export.hf import choose, reason
from gpuday.models.encoder import EncoderConfig
from gpuday.optim.muon import Muon
from gpuday.presets.sizes import LADDER, SIZES
from gpuday.recipe import KINDS
from gpuday.train.trained import load_recipe

Call = Callable[..., Any]


def test_the_presets_are_listed_with_what_they_are(call: Call) -> None:
    """All of them, by the first line of their docstring."""
    rows = call("list", "presets").events
    every = ["bert", "crammed", "crammed_v1", "izsak", "modern", "unrestricted"]
    assert [row["preset"] for row in rows] == presets.names() == every
    assert all(len(row["what"]) > 20 for row in rows)


def test_the_sizes_are_listed_with_their_figures(call: Call) -> None:
    """From small to large, and after them the paper's outlines."""
    rows = call("list", "sizes").events
    assert [row["size"] for row in rows] == list(SIZES)
    assert [row["width"] for row in rows[: len(LADDER)]] == sorted(size.width for size in LADDER.values())


def test_tasks_are_listed_with_what_is_scored_beside_them(call: Call) -> None:
    """All that `--tasks` takes; MNLI's other dev set stands beneath MNLI."""
    rows = call("list", "tasks").events
    assert {*BY_NAME} <= {row["task"].lower() for row in rows}
    assert all(row["metrics"] and row["source"] for row in rows)
    names = [row["task"] for row in rows]
    assert rows[names.index("MNLI") + 1]["scored with"] == "MNLI"


def test_protocols_are_listed_with_their_rates(call: Call) -> None:
    """Those of a sweep as a range, which its few rows widen."""
    rows = {row["protocol"]: row for row in call("list", "protocols").events}
    assert list(rows) == list(PROTOCOLS)
    assert (rows["P1"]["rate"], rows["P1"]["epochs"], rows["P1-small-short"]["rows"]) == ("4e-05", "5", 8000)
    assert (rows["P2"]["rate"], rows["P2"]["epochs"]) == ("1e-05 to 8e-05", "1 to 10")


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
    defaults = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.98, "eps": 1e-12, "weight_decay": 0.01}
    assert {knob["key"]: knob["default"] for knob in adamw["knobs"]} == {
        f"optimizer.{k}": v for k, v in defaults.items()
    }
    assert adamw["source"] == ["arXiv 1711.05101"]
    (muon,) = (row for row in call("list", "optimizer").events if row["part"] == "muon")
    knobs = {knob["key"]: knob for knob in muon["knobs"]}
    assert knobs["optimizer.rest"]["default"] == "adamw"
    assert knobs["optimizer.rest.lr"]["default"] == Muon().rest.lr
    assert knobs["optimizer.nesterov"]["values"] == [False, True] and all(knob["what"] for knob in knobs.values())
    papers = {row["part"]: row["source"] for row in call("list", "parts").events if row["kind"] != "source"}
    assert [part for part, source in papers.items() if not source] == []


def test_a_users_own_part_is_listed_like_the_others(call: Call, tmp_path: Path) -> None:
    """Its file is read for its docstrings; the part of the contributor's guide."""
    guide = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text()
    (tmp_path / "signum.py").write_text(guide.partition("```python\n")[2].partition("```")[0])
    rows = call("list", "optimizer", "--part", "signum.py").events
    (mine,) = (row for row in rows if row.get("part") == "signum")
    assert mine["what"] == "One rate for everything, no weight decay."
    knobs = {knob["key"]: knob["default"] for knob in mine["knobs"]}
    assert (knobs, mine["source"]) == ({"optimizer.lr": 1e-3, "optimizer.momentum": 0.9}, ["arXiv 1802.04434"])


def test_the_axes_of_a_model_are_listed_with_their_values(call: Call) -> None:
    """Every field of the encoder's config: its default, what it can be, and its line of documentation."""
    rows = {row["key"].removeprefix("model."): row for row in call("list", "axes").events}
    assert list(rows) == [field.name for field in dataclasses.fields(EncoderConfig)]
    assert all(row["key"] == f"model.{name}" for name, row in rows.items())
    assert all(row["what"] for row in rows.values())
    assert rows["placement"]["values"] == ["pre", "post", "sandwich", "deepnorm"]
    assert (rows["tied"]["default"], rows["tied"]["values"]) == (True, [False, True])
    assert (rows["width"]["default"], rows["width"]["values"]) == (256, "whole number")
    assert rows["mixer"]["default"] == "softmax" and "fourier" in rows["mixer"]["values"]
    assert rows["position"]["presets"]["bert"] == "learned" and "modern" not in rows["position"]["presets"]


def listed(monkeypatch: pytest.MonkeyPatch, *whats: str, all_: bool = False) -> list[tuple[str, list[dict[str, Any]]]]:
    """(title, rows) of what a terminal shows; with `all_` the knobs of all parts."""
    shown: list[tuple[str, list[dict[str, Any]]]] = []
    monkeypatch.setattr(Screen, "table", lambda self, title, rows: shown.append((title, rows)))
    with Screen(as_json=True) as screen:
        screen.as_json = False
        monkeypatch.setattr(rooms, "Screen", lambda **_: contextlib.nullcontext(screen))
        for what in whats:
            rooms.list_command(what, all_=all_ and what != "axes")
    return shown


def test_what_is_listed_can_be_read_by_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a line for each knob, in the words of `--set`, below the line that chooses its part."""
    (_, averages), (_, axes) = listed(monkeypatch, "average", "axes", all_=True)
    lines = [row["--set"] for row in averages]
    at = lines.index("average=lawa")
    assert lines[at : at + 4] == ["average=lawa", "average.k=5", "average.every=0.002", "average.on_cpu=false"]
    assert averages[at]["what"].endswith("arXiv 2209.14981")
    by_line = {row["--set"]: row for row in axes}
    assert by_line["model.norm=layernorm"]["values"] == "layernorm, rmsnorm, scalenorm"
    assert "learned: bert, izsak" in by_line["model.position=rotary"]["presets"]


def test_a_kind_is_a_line_for_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits a screen: how each is chosen, what it is and its paper; the knobs are asked for."""
    ((title, rows),) = listed(monkeypatch, "optimizer")
    assert [row["--set"] for row in rows] == [f"optimizer={name}" for name in parts.names(KINDS["optimizer"])]
    assert title == "optimizer, at optimizer" and all(row.keys() == {"--set", "what"} for row in rows)


def test_one_part_is_listed_with_its_knobs(call: Call) -> None:
    """By its name behind its kind, or behind a place of the recipe; the same as among all."""
    (muon,) = call("list", "optimizer", "muon").events
    assert muon in call("list", "optimizer").events
    (ramp,) = call("list", "mask_rate", "ramp").events
    assert [knob["key"] for knob in ramp["knobs"]] and ramp["knobs"][0]["key"].startswith("mask_rate.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("optimizer", "moun"), "no optimizer is called 'moun'"),
        (("presets", "bert"), "bert beside presets, which is no kind of part"),
        (("parts", "muon"), "gpuday list optimizer muon"),
        (("muon",), "gpuday list optimizer muon"),
        (("sizes", "--all"), "--all beside sizes, which is no kind of part"),
    ],
)
def test_a_part_that_is_not_there_is_refused(call: Call, arguments: tuple[str, ...], says: str) -> None:
    """With the nearest that is, and exit code 2."""
    called = call("list", *arguments)
    assert called.code == 2 and says in called.err and "fix:" in called.err


@pytest.mark.parametrize("what", ["optimizer", "objective", "mixer", "shape", "average", "mask_rate", "batch.ramp"])
def test_every_line_that_is_listed_is_one_that_set_takes(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The line of a part, then each of its own, on a preset; a lone refusal is of what it changes, not of the key."""
    ((_, rows),) = listed(monkeypatch, what, all_=True)
    base, chosen = presets.find("modern")("nano", Budget.parse("10m")), ("", "")
    for row in rows:
        key, _, value = row["--set"].partition("=")
        if not row["values"]:
            chosen = (key, value)
        with contextlib.suppress(UsageError):
            recipe = config.replace_at(base, *chosen)
            assert key in config.paths(recipe)
            config.replace_at(recipe, key, config.parse_value(value))
    assert len([row for row in rows if not row["values"]]) == len(parts.names(KINDS[listing.places().get(what, what)]))


@pytest.mark.parametrize("slot", ["rate", "mask_rate", "length", "decay", "dropout", "ramp", "batch.ramp"])
def test_the_name_of_a_place_lists_what_may_stand_there(call: Call, slot: str) -> None:
    """Users type the key that they set: schedules, with keys below it."""
    rows = call("list", slot).events
    assert {row["part"] for row in rows} == {row["part"] for row in call("list", "schedule").events}
    (linear,) = (row for row in rows if row["part"] == "linear")
    place = "batch.ramp" if slot == "ramp" else slot
    assert [knob["key"] for knob in linear["knobs"]] == [f"{place}.{name}" for name in ("warmup", "cooldown", "end")]


def test_knobs_of_parts_in_a_list_have_no_key_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters stand in a table each; the line that chooses one is the whole list."""
    ((title, rows),) = listed(monkeypatch, "filter", all_=True)
    lines = [row["--set"] for row in rows]
    assert 'data.filters=[{part = "compressibility"}]' in lines and "cutoff=0.3" in [x[:10] for x in lines]
    assert title == "filter, at data.filters"


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
    reading = [{"event": "reading", "model": "runs/mine"}]  # what is known is no news, and no task is none
    assert call("evaluate", "runs/mine", "--tasks", "none").events == reading
    exported = call("export", "runs/mine")
    assert exported.code == 0 and exported.events[-1]["folder"] == "runs/mine/model"
    assert exported.events[-1]["python"] == 'transformers.AutoModelForMaskedLM.from_pretrained("runs/mine/model")'
    assert 'from_pretrained("runs/mine/model")' in (run / "model" / "README.md").read_text()
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


@pytest.fixture
def unheld(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A run whose model no class of Transformers holds."""
    call("prepare", "tiny.toml", "--out", "runs/mine", "--set", "model.norm=rmsnorm")
    run = RunDir(tmp_path / "runs" / "mine")
    _, obstacles = choose(load_recipe(run).model)
    section = {
        "kind": None,
        "parity_max_abs": None,
        "folder": None,
        "obstacles": obstacles,
        "reason": reason(obstacles),
    }
    monkeypatch.setattr(rooms, "export", lambda _: section)
    return run


def test_an_export_that_writes_nothing_ends_with_4(call: Call, unheld: RunDir) -> None:
    """With the nearest class alone and what is in its way, and how such a model is used."""
    called = call("export", "runs/mine")
    assert called.code == 4
    assert "nothing was exported: not modernbert: norm is rmsnorm" in called.err and "not bert" not in called.err
    assert "gpuday evaluate runs/mine" in called.err and "load_trained" in called.err
    assert set(read_json(unheld.summary)["export"]["obstacles"]) == {"modernbert", "bert"}


def test_a_run_whose_model_cannot_be_exported_has_succeeded(unheld: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    """In `gpuday run` it is a notice, and the page says so too."""
    capsys.readouterr()
    rooms.export_room(unheld, Screen(as_json=True))
    told, notice = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (told["event"], told["kind"], notice["event"]) == ("export", None, "notice")
    assert told["reason"].startswith("not modernbert: norm is rmsnorm")
    assert f"gpuday evaluate {unheld.root}" in notice["message"] and "load_trained" in notice["message"]
    rooms.report_room(unheld, Screen(as_json=True))
    page = unheld.report.read_text()
    assert "model.norm=rmsnorm" in page and "Not exported: not modernbert: norm is rmsnorm" in page


def test_a_listed_run_says_what_it_changes(call: Call, unheld: RunDir) -> None:
    """In the words of --set, with all that the tiny preset file sets."""
    (row,) = call("list").events
    assert {"model.norm=rmsnorm", "data.vocab=512"} <= set(row["changed"])
    assert (row["word_bits_per_byte"], row["not_comparable"]) == (None, None)
