"""Every preset at every size as a value that is written down and read, and every preset for one step at toy width."""

import json

import numpy as np
import pytest
import torch

from gpuday import presets
from gpuday.core import config
from gpuday.core.clock import Budget
from gpuday.objectives import Vocabulary
from gpuday.presets.sizes import SIZES
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner
from gpuday.train.parameters import named_parameters

DAY = Budget.parse("24h")
VOCABULARY = Vocabulary(size=128, mask_id=4, special_ids=(0, 1, 2, 3, 4))
every_preset = pytest.mark.parametrize("preset", presets.names())
every_size = pytest.mark.parametrize("size", list(SIZES))


def as_toml(value, key=""):
    """Plain values as TOML: a table for every dictionary, in order; what JSON and TOML write alike is left as it is."""
    lines = [f"[{key}]"] if key else []
    lines += [f"{k} = {json.dumps(v)}" for k, v in value.items() if not isinstance(v, dict | list)]
    lines += [f"{k} = {inline(v)}" for k, v in value.items() if isinstance(v, list)]
    tables = [as_toml(v, f"{key}.{k}" if key else k) for k, v in value.items() if isinstance(v, dict)]
    return "\n".join([*lines, *tables])


def inline(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {inline(v)}" for k, v in value.items()) + "}"
    return f"[{', '.join(map(inline, value))}]" if isinstance(value, list) else json.dumps(value)


@every_size
@every_preset
def test_a_recipe_survives_json_and_toml(preset, size, tmp_path):
    """Written with all of its values, read as a person's own file is, it is the same recipe, fingerprint included."""
    recipe = presets.find(preset)(size, DAY)
    plain = config.to_dict(recipe)
    (tmp_path / "mine.toml").write_text(as_toml(plain), encoding="utf-8")
    for read in (json.loads(json.dumps(plain)), config.read_toml(tmp_path / "mine.toml")):
        back = config.from_dict(Recipe, read)
        assert back == recipe
        assert config.fingerprint(back) == config.fingerprint(recipe)


@every_preset
def test_a_preset_takes_a_step(preset):
    """With its own optimizer, schedule, dropout and objective every parameter moves, and the loss on the batch falls."""
    recipe = presets.find(preset)("nano", DAY)
    for key, value in {
        "model.mixer.head_width": 16,
        "model.width": 32,
        "model.shape.layers": 2,
        "data.length": 32,
    }.items():
        recipe = config.replace_at(recipe, key, value)
    learner = make_learner(recipe, vocab=VOCABULARY.size)
    rows = np.random.default_rng(0).integers(5, VOCABULARY.size, (4, 32))
    kind = recipe.objective.kind_at(0.5, 0, 4)
    arrays = recipe.objective.inputs(
        rows, np.arange(4, dtype=np.uint64), seed=0, epoch=0, multiplier=1.0, kind=kind, vocabulary=VOCABULARY
    )
    inputs = {name: torch.from_numpy(values) for name, values in arrays.items()}
    named = named_parameters(learner)
    stepper = recipe.optimizer.build(named)
    before = {p.name: p.tensor.detach().clone() for p in named}

    def loss():
        torch.manual_seed(0)  # the same dropout each time
        return learner(inputs, kind)

    losses = [loss().item()]
    for _ in range(2):  # matrices that write zeros into the residual stream let nothing pass in the first one
        learner.train(recipe.train.dropout)
        loss().backward()
        stepper.step(recipe.rate(0.5), loss, decay=recipe.decay(0.5))
        learner.eval().zero_grad()
        losses.append(loss().item())
    assert losses[-1] < losses[0]
    assert [p.name for p in named if torch.equal(p.tensor, before[p.name])] == []
