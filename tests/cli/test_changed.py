"""What a recipe changes of its preset, in the words of --set."""

import json
from typing import Any

import pytest

from gpuday import presets
from gpuday.cli.changed import changed
from gpuday.core import config
from gpuday.core.clock import Budget
from gpuday.recipe import Recipe

TEN_MINUTES = Budget.parse("10m")


def stored(changes: dict[str, Any] | None = None, preset: str = "modern") -> dict[str, Any]:
    """recipe.json of a preset with changes."""
    recipe = config.merge(presets.find(preset)("nano", TEN_MINUTES), changes or {})
    return json.loads(json.dumps(config.to_dict(recipe)))


@pytest.mark.parametrize("preset", presets.names())
def test_a_preset_changes_nothing_of_itself(preset: str) -> None:
    """Whatever its own values are."""
    assert changed(stored(preset=preset)) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimizer": {"lr": 0.03}, "model": {"norm": "rmsnorm"}}, ["model.norm=rmsnorm", "optimizer.lr=0.03"]),
        ({"optimizer": {"rest": {"lr": 0.5}}, "seed": 3}, ["optimizer.rest.lr=0.5", "seed=3"]),
        ({"optimizer": {"part": "soap"}}, ["optimizer=soap"]),
        ({"optimizer": {"part": "soap", "lr": 0.5}, "train": {"dropout": True}},
         ["optimizer=soap", "optimizer.lr=0.5", "train.dropout=true"]),
        ({"optimizer": {"part": "sam", "inner": "muon"}}, ["optimizer=sam", "optimizer.inner=muon"]),
        ({"data": {"corpus": ["my texts/", "b"]}}, ['data.corpus=["my texts/", "b"]']),
        ({"data": {"filters": [{"part": "compressibility", "cutoff": 0.5}]}},
         ['data.filters=[{part = "compressibility", cutoff = 0.5}]']),
    ],
)  # fmt: skip
def test_what_differs_is_told_as_set_takes_it(changes: dict[str, Any], told: list[str]) -> None:
    """A part by its name and what is not its default; applied to the preset again it is the same recipe."""
    recipe = stored(changes)
    assert changed(recipe) == told
    made = presets.find("modern")("nano", TEN_MINUTES)
    for item in told:
        key, _, value = item.partition("=")
        made = config.replace_at(made, key, config.parse_value(value))
    assert made == config.from_dict(Recipe, recipe)


def test_a_recipe_of_another_version_is_told_as_far_as_it_goes() -> None:
    """A key that it lacks is newer than it; one that is gone is told, and so are the knobs of a part that is not known."""
    recipe = stored()
    del recipe["average"], recipe["train"]["spike"]
    recipe |= {"gone": 1, "rate": {"part": "mine", "power": 2.0}, "__class__": {"x": 1}}
    assert set(changed(recipe) or ()) == {"rate=mine", "rate.power=2.0", "gone=1", "__class__={x = 1}"}


@pytest.mark.parametrize(
    "lost", [{"preset": "mine"}, {"size": 5}, {"budget": "soon"}, {"budget": None}, {"preset": []}]
)
def test_a_preset_that_is_not_known_has_no_changes_to_tell(lost: dict[str, Any]) -> None:
    """Neither none nor all."""
    assert changed(stored() | lost) is None
    assert changed({}) is None


def test_a_file_of_lists_in_lists_is_no_recipe() -> None:
    """It is answered like one that is not known, and not by a traceback."""
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert changed(stored() | {"gone": deep}) is None
