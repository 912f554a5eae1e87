"""Parameters: each once, in the role that its optimizer must know."""

import math
from collections.abc import Callable

import pytest

from gpuday.core.clock import Budget
from gpuday.objectives import Learner
from gpuday.presets import find, names
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner
from gpuday.train.parameters import named_parameters


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_named_once(make_recipe: Callable[..., Recipe], tied: bool) -> None:
    """The tied decoder is the embedding; together they are all of the model's numbers."""
    learner = make_learner(make_recipe(model__tied=tied), vocab=320)
    named = named_parameters(learner)
    assert [p.name for p in named if p.role == "embedding"][1:] == ([] if tied else ["model.head.decoder"])
    assert len({id(p.tensor) for p in named}) == len(named) == len({p.name for p in named})
    assert sum(p.tensor.numel() for p in named) == sum(p.numel() for p in learner.parameters())
    assert [p.name for p in named] == [name for name, _ in learner.named_parameters()]


def test_roles_follow_what_a_parameter_is(learner: Learner) -> None:
    """By hand for two layers of the modern model: query-key-value is three in one, the gated network two."""
    named = {p.name.removeprefix("model."): p for p in named_parameters(learner)}
    assert [name for name, p in named.items() if p.role == "embedding"] == ["encoder.embedding.weight"]
    matrices = [p for p in named.values() if p.role == "matrix"]
    assert sorted((tuple(p.tensor.shape), p.fused) for p in matrices if "encoder" in p.name) == sorted(
        [((96, 32), 3), ((32, 32), 1), ((128, 32), 2), ((32, 64), 1)] * 2
    )
    assert [p.fused for p in named.values() if "head.dense" in p.name] == [1]
    assert all(p.tensor.dim() == 1 for p in named.values() if p.role == "vector")


@pytest.mark.parametrize("preset", names())
def test_every_preset_names_its_parameters(preset: str) -> None:
    """Tables, biases, scales, learned positions and an untied decoder included; a fused matrix divides into its parts."""
    recipe = find(preset)("nano", Budget.parse("10m"))
    named = named_parameters(make_learner(recipe, vocab=320))
    assert {p.role for p in named} == {"matrix", "embedding", "vector"}
    for p in named:
        assert p.tensor.shape[0] % p.fused == 0 if p.tensor.dim() else p.fused == 1
    tables = [p.name for p in named if p.role == "embedding"]
    assert len(tables) == 1 + (recipe.model.position == "learned") + (not recipe.model.tied)
    assert math.prod(named[0].tensor.shape) == 320 * recipe.model.width
