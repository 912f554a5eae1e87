"""The table of variants: nothing of the code is missing in it, its checks are real, and a broken variant ends it with 1."""

import dataclasses
import json
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
import torch

from gpuday.core import config, parts
from gpuday.models.encoder import EncoderConfig
from gpuday.models.heads import MaskedLM
from gpuday.optim.adamw import Adamw
from gpuday.recipe import KINDS
from loading import load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The script as a module."""
    return load(ROOT / "tools" / "variants.py")


@pytest.fixture(scope="module")
def rows(tool: ModuleType) -> Any:
    """What the variants are, as a module."""
    return sys.modules["variant_rows"]


@pytest.fixture(scope="module")
def preset(tool: ModuleType) -> Any:
    """What `make variants` changes."""
    return tool.workload("nano", preset="modern", budget=tool.BUDGET)


@pytest.fixture(scope="module")
def tiny(tool: ModuleType, preset: Any) -> Any:
    """The same at toy size."""
    return tool.toy(preset.recipe)


def finite(cls: type) -> Iterator[tuple[str, Any, Any]]:
    """(field, value, default) of all that a config's choices and switches can be."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        options = typing.get_args(hint) if typing.get_origin(hint) is Literal else (True, False) if hint is bool else ()
        yield from ((field.name, option, field.default) for option in options)


def test_every_part_that_is_trained_with_has_a_row(rows: Any) -> None:
    """All kinds but those that only decide which text is read."""
    assert {*rows.KEYS, *rows.OF_DATA} == set(KINDS)
    named = {(row.group, row.name) for row in rows.variants()}
    assert {(kind, part) for kind in rows.KEYS for part in parts.names(KINDS[kind])} <= named


def test_every_value_of_every_axis_has_a_row(rows: Any) -> None:
    """Each option of a choice, both states of a switch, and one stated value at least of everything else."""
    every = rows.variants()
    assert rows.fields_without_a_row(every) == []
    named = {row.name for row in every if row.group == "axis"}
    missing = [f"{n}={v if isinstance(v, str) else json.dumps(v)}" for n, v, _ in finite(EncoderConfig)]
    assert [name for name in missing if name not in named] == []


def test_every_other_value_of_a_parts_choices_has_a_row(rows: Any) -> None:
    """What is not the default; of a part, not of the parts that it holds, which have rows of their own."""
    named = {row.key for row in rows.variants()}
    for kind in rows.KEYS:
        for name in parts.names(KINDS[kind]):
            for knob, value, default in finite(parts.find(KINDS[kind], name)):
                written = value if isinstance(value, str) else json.dumps(value)
                assert value == default or f"{kind} {name} {knob}={written}" in named


def test_what_is_stated_is_there(rows: Any) -> None:
    """A renamed knob or a part that is gone must not leave a value behind that nobody measures."""
    every = rows.variants()
    assert rows.stated_without_a_row(every) == []
    assert rows.stated_without_a_row(every[:5]) != []
    assert len({row.key for row in every}) == len(every)


def test_each_is_one_change_to_the_preset(rows: Any, preset: Any) -> None:
    """Accepted by its config; beside its companions it differs in one place, or it is the preset's own."""
    own = set()
    for variant in rows.variants():
        recipe = variant.of(preset.recipe)
        differ = (path for path, _, _ in config.differences(preset.recipe, recipe))
        changed = {path for path in differ if not any(f"{path}.".startswith(f"{c}.") for c in variant.companions)}
        name = variant.name.partition("=")[0]
        place = {**rows.KEYS, "axis": f"model.{name}", "scheduled": name}[variant.group]
        assert all(path == place or path.startswith(f"{place}.") for path in changed), variant.key
        if not changed:
            own.add(variant.key)
    assert {"optimizer muon", "shape plain", "average last", "axis placement=pre", "axis tied=true"} <= own
    assert not {"optimizer adamw", "mixer fourier", "axis placement=post", "axis tied=false"} & own


def test_a_new_part_is_a_row_by_itself(rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of the contributor's guide, with its paper."""
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    (tmp_path / "signum.py").write_text(guide.partition("```python\n")[2].partition("```")[0])
    monkeypatch.setattr(parts, "_user_files", {})
    parts.add_file(tmp_path / "signum.py", list(KINDS.values()))
    (row,) = (row for row in rows.variants() if row.key == "optimizer signum")
    assert (row.changes, row.source) == ({"optimizer.part": "signum"}, ("arXiv 1802.04434",))


def examine(tool: ModuleType, preset: Any, key: str, **options: Any) -> dict[str, Any]:
    variant = next(v for v in tool.variants() if v.key == key)
    return tool.examine(variant, preset, **{"rounds": 0, "compiled": False, **options})


def test_the_figures_are_those_of_the_model_that_is_built(tool: ModuleType, preset: Any, tiny: Any) -> None:
    """Parameters are counted one by one; the exporter names the class, or what bars it."""
    row = examine(tool, tiny, "axis tied=false")
    model = MaskedLM(config.replace_at(tiny.recipe.model, "tied", False), vocab=128, length=32)
    assert row["parameters"] == row["trained_parameters"] == sum(p.numel() for p in model.parameters())
    assert row["error"] == "" and row["resumes"] is True and row["own"] is False
    own = tool.figures(preset)
    assert (own["exports"], own["reason"]) == ("modernbert", "")
    assert "mixer is fourier" in examine(tool, tiny, "mixer fourier")["reason"]
    generator = examine(tool, tiny, "objective rtd")
    assert generator["trained_parameters"] > generator["parameters"]
    assert generator["exports"] == "modernbert, the encoder alone"


@pytest.mark.parametrize("key", ["optimizer muon", "axis dropout=0.1"])
def test_a_resume_is_tried_and_not_asked_for(
    tool: ModuleType, preset: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six steps are three and three; where the state of the optimizer is lost on the way, they are not."""
    recipe = next(v for v in tool.variants() if v.key == key).of(preset.recipe)
    assert tool.resumes(recipe)
    load_all = tool.Weights.restore

    def forgetful(weights: Any, saved: Any) -> None:
        load_all(weights, saved)
        with torch.no_grad():
            for tensor in weights.stepper.state().values():
                tensor.zero_()

    monkeypatch.setattr(tool.Weights, "restore", forgetful)
    assert not tool.resumes(recipe)


def test_speed_is_that_of_both_in_turn(tool: ModuleType, tiny: Any) -> None:
    """Tokens a second of each, over the same steps; none is told where the variant is the preset."""
    speed = examine(tool, tiny, "optimizer adamw", rounds=1)["speed"]
    assert speed["relative"] == pytest.approx(speed["tokens_per_second"] / speed["preset_tokens_per_second"], rel=1e-3)
    assert (speed["rounds"], speed["compiled"]) == (1, False)
    assert examine(tool, tiny, "optimizer muon", rounds=1)["speed"] is None


@pytest.fixture
def command(tool: ModuleType, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`command("--no-speed")` over two variants of a preset at toy size: exit code, rows by name, the table."""
    two = [v for v in tool.variants() if v.key in ("optimizer adamw", "shape plain")]
    monkeypatch.setattr(tool, "variants", lambda: two)
    monkeypatch.setattr(tool, "workload", lambda *_, **__: tiny)
    monkeypatch.setattr(tool, "source_revision", lambda: "today")
    monkeypatch.setattr(tool, "TOY_STEPS", 2)
    out, table = tmp_path / "deep" / "rows.jsonl", tmp_path / "table.md"

    def call(*arguments: str) -> tuple[int, dict[str, Any], str]:
        monkeypatch.setattr(sys, "argv", ["variants.py", "--out", str(out), "--table", str(table), *arguments])
        code = tool.main()
        return code, tool.known(out), table.read_text()

    return call


def test_a_row_that_is_there_is_not_made_again(command: Any, tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same command on the same code; with another revision it is. `--only` makes one kind, and the table has all."""
    code, rows, table = command("--no-speed", "--only", "shape")
    assert (code, list(rows)) == (0, ["shape plain"])
    assert "| `adamw` | not measured |" in table and "| `plain` | the preset's own |" in table
    code, rows, table = command("--no-speed")
    assert (code, set(rows)) == (0, {"optimizer adamw", "shape plain"})
    assert rows["optimizer adamw"]["changes"] == {"optimizer.part": "adamw"}
    assert "arXiv 1711.05101" in table
    monkeypatch.setattr(tool, "examine", None)
    assert command("--no-speed") == (0, rows, table)
    monkeypatch.setattr(tool, "source_revision", lambda: "tomorrow")
    with pytest.raises(TypeError):
        command("--no-speed")


def test_a_speed_outlives_what_is_looked_at_without_one(
    command: Any, tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps the revision that it was measured on, which the table names; `--only` takes one variant as well as a kind."""
    _, rows, table = command("--eager", "--rounds", "1", "--only", "optimizer adamw")
    speed = rows["optimizer adamw"]["speed"]
    assert list(rows) == ["optimizer adamw"] and speed["revision"] == "today" and "speeds: " not in table
    monkeypatch.setattr(tool, "source_revision", lambda: "tomorrow")
    _, rows, table = command("--no-speed")
    assert (rows["optimizer adamw"]["revision"], rows["optimizer adamw"]["speed"]) == ("tomorrow", speed)
    assert "source: tomorrow; speeds: today." in table and "| `plain` | the preset's own |" in table


def test_a_broken_variant_says_so_and_ends_the_command_with_1(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An optimizer that cannot be built: its row holds the error, the others are made, and it is tried again."""

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("by | zero")

    with monkeypatch.context() as patch:
        patch.setattr(Adamw, "build", broken)
        code, rows, table = command("--no-speed")
    assert code == 1
    assert rows["optimizer adamw"]["error"] == "ZeroDivisionError: by | zero"
    assert rows["shape plain"]["error"] == "ZeroDivisionError: by | zero"  # the preset's muon has it for the rest
    assert "broken: ZeroDivisionError: by / zero" in table
    code, rows, table = command("--no-speed")
    assert code == 0 and "broken" not in table
