"""A recipe: one frozen value that a run is rebuilt from, and the rule for its batch."""

import dataclasses
import itertools
import json
from pathlib import Path

import pytest

from gpuday.core import config
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.core.rundir import RunDir, read_json, write_json
from gpuday.presets import find, names
from gpuday.presets.sizes import SIZES
from gpuday.recipe import BatchConfig, Recipe, TrainConfig
from gpuday.schedules.ramp import Ramp

TEN_MINUTES, DAY = Budget.parse("10m"), Budget.parse("24h")


@pytest.mark.parametrize("budget", [TEN_MINUTES, DAY, Budget.parse("2e9tok")], ids=["10m", "24h", "tokens"])
@pytest.mark.parametrize("size", list(SIZES))
@pytest.mark.parametrize("preset", names())
def test_every_preset_is_rebuilt_from_its_recipe_json(preset, size, budget, tmp_path: Path):
    """From the text of the file alone, with the same fingerprint."""
    recipe = find(preset)(size, budget)
    run = RunDir(tmp_path)
    write_json(run.recipe, config.to_dict(recipe))
    back = config.from_dict(Recipe, read_json(run.recipe))
    assert back == recipe
    assert config.fingerprint(back) == config.fingerprint(recipe)


def test_recipes_of_all_presets_and_sizes_have_fingerprints_of_their_own():
    """A run is never taken for another."""
    prints = [config.fingerprint(find(p)(s, b)) for p in names() for s in SIZES for b in (TEN_MINUTES, DAY)]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    ("path", "value"),
    [("optimizer.lr", 0.5), ("seed", 7), ("rate.warmup", 0.5), ("model.shape.layers", 3), ("budget.amount", 60.0)],
)
def test_one_value_is_varied_and_nothing_else(path, value):
    """The original is as it was; the copy differs in that one leaf."""
    recipe = find("modern")("nano", TEN_MINUTES)
    changed = config.replace_at(recipe, path, value)
    assert [(where, new) for where, _, new in config.differences(recipe, changed)] == [(path, value)]
    assert recipe == find("modern")("nano", TEN_MINUTES)


def test_a_recipe_is_never_written_into():
    """Frozen, its parts too."""
    recipe = find("crammed")("nano", TEN_MINUTES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.model.width = 1


def test_an_unknown_key_is_refused_with_the_nearest_match():
    """Also deep inside."""
    data = json.loads(json.dumps(config.to_dict(find("modern")("nano", TEN_MINUTES))))
    data["optimizer"]["momentun"] = data["optimizer"].pop("momentum")
    with pytest.raises(UsageError) as caught:
        config.from_dict(Recipe, data)
    assert "optimizer.momentun" in caught.value.what
    assert caught.value.fix == "did you mean 'momentum'?"


def test_a_negative_seed_is_refused():
    """Streams are named by whole numbers from 0 on."""
    with pytest.raises(UsageError, match="seed is -1"):
        Recipe(preset="modern", size="nano", budget=TEN_MINUTES, seed=-1)


def test_the_batch_at_the_design_point_is_the_design_batch():
    """2^20 tokens at 9.1e9: 8,192 rows of 128, 2,048 of 512; and no more above."""
    batch = BatchConfig()
    assert batch.full_rows(expected_tokens=9.1e9, length=128) == 8192
    assert batch.full_rows(expected_tokens=9.1e9, length=512) == 2048
    assert batch.full_rows(expected_tokens=9.1e12, length=128) == 8192


def test_the_batch_follows_the_power_of_the_expected_tokens():
    """The rule's other anchor, about 8,192 tokens at 3.5e6, and a point between by hand."""
    batch = BatchConfig()
    assert batch.full_rows(expected_tokens=3.5e6, length=128) == 64
    assert 2**20 * (1e9 / 9.1e9) ** 0.617 / 128 == pytest.approx(2097, abs=1)  # nearest round number: 2,048
    assert batch.full_rows(expected_tokens=1e9, length=128) == 2048
    assert batch.full_rows(expected_tokens=9.1e9 / 2 ** (1 / 0.617), length=128) == 4096


def test_the_batch_is_never_smaller_than_the_least():
    """4,096 tokens: 32 rows of 128, and eight rows where that is more."""
    batch = BatchConfig()
    assert batch.full_rows(expected_tokens=1.0, length=128) == 32
    assert batch.full_rows(expected_tokens=1.0, length=4096) == 8


def test_rows_by_the_rule_are_round_numbers_that_grow_with_the_budget():
    """8, 12, 16, 24, ...: whole micro-batches, and the same for a budget that is expected to read a little more."""
    rows = [BatchConfig().full_rows(expected_tokens=10.0 ** (e / 4), length=128) for e in range(20, 44)]
    assert set(rows) <= {m << e for e in range(20) for m in (8, 12)}
    assert rows == sorted(rows)
    near = [BatchConfig().full_rows(expected_tokens=t, length=128) for t in (9.4e6, 1.0e7, 1.35e7)]
    assert near == [128, 128, 128]


def test_rows_that_are_given_overrule_the_rule():
    """Whatever budget and length."""
    batch = BatchConfig(rows=48)
    assert {batch.full_rows(expected_tokens=t, length=n) for t in (1.0, 1e12) for n in (128, 512)} == {48}


@pytest.mark.parametrize("rows", [1, 8, 20, 64, 72, 100])
def test_the_full_batch_is_reached_at_the_end_of_the_ramp(rows):
    """`rows` is what it says, also where the ramp's own steps do not meet it."""
    batch = BatchConfig(rows=rows, ramp=Ramp(start=0.25, until=0.5))
    full = batch.full_rows(expected_tokens=1e9, length=128)
    assert [batch.rows_at(f, full_rows=full, length=128) for f in (0.5, 1.0)] == [rows, rows]


@pytest.mark.parametrize(("full", "length", "least"), [(32, 128, 32), (96, 128, 32), (8192, 128, 32), (64, 512, 8)])
def test_the_ramp_of_the_batch_is_monotone_in_steps_of_4096_tokens(full, length, least):
    """From one such step to the full batch at three fifths of the budget, as `crammed` has it."""
    batch = BatchConfig(ramp=Ramp(start=0.0, until=0.6))
    rows = [batch.rows_at(i / 1000, full_rows=full, length=length) for i in range(1001)]
    assert (rows[0], rows[600], rows[-1]) == (least, full, full)
    assert all(a <= b for a, b in itertools.pairwise(rows))
    assert {r % least for r in rows} == {0}


@pytest.mark.parametrize("microbatch", [1, 2, 4, 8, 16, 32])
def test_the_ramp_pads_no_micro_batch_of_the_usual_sizes(microbatch):
    """Powers of two up to 4,096 tokens divide every step of every batch that the rule gives and they divide."""
    batch = BatchConfig(ramp=Ramp(start=0.25, until=0.3))
    rows = {batch.rows_at(i / 1000, full_rows=f, length=128) for i in range(1001) for f in (32, 64, 96, 128, 192)}
    assert {r % microbatch for r in rows} == {0}


def test_rows_longer_than_a_step_of_the_ramp_come_one_by_one():
    """No step is without a row."""
    batch = BatchConfig(ramp=Ramp(start=0.0, until=1.0))
    assert [batch.rows_at(f, full_rows=4, length=8192) for f in (0.0, 0.5, 0.75)] == [1, 2, 3]


def test_the_ramp_by_hand():
    """A quarter of 64 rows at the start, five eighths at half of the ramp."""
    batch = BatchConfig(ramp=Ramp(start=0.25, until=0.3), least_tokens=8 * 128)
    rows = [batch.rows_at(f, full_rows=64, length=128) for f in (0.0, 0.15, 0.3, 1.0)]
    assert rows == [16, 40, 64, 64]


def test_the_ramp_never_exceeds_the_full_batch():
    """A batch of fewer than 4,096 tokens does not grow."""
    batch = BatchConfig(ramp=Ramp(start=0.0, until=0.6))
    assert {batch.rows_at(i / 10, full_rows=24, length=128) for i in range(11)} == {24}


def test_a_spike_is_more_than_usual_or_the_guard_is_off():
    """At one or below every other update would be left out; NaN compares with nothing."""
    assert TrainConfig().spike == 100.0
    assert [TrainConfig(spike=spike).spike for spike in (0.0, 1.5)] == [0.0, 1.5]
    for spike in (1.0, 0.5, -1.0, float("nan")):
        with pytest.raises(UsageError, match="spike is") as caught:
            TrainConfig(spike=spike)
        assert caught.value.where == "train.spike"
