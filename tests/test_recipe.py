"""A recipe: one frozen value that a run is rebuilt from, and the rule for its batch."""

import dataclasses
import itertools
import json
from pathlib import Path

import pytest

from gpuday.core import config, parts
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.core.rundir import RunDir, read_json, write_json
from gpuday.presets import find, names
from gpuday.presets.sizes import SIZES
from gpuday.recipe import BatchConfig, Recipe, TrainConfig, extent
from gpuday.schedules import Schedule
from gpuday.schedules.ramp import Ramp
from gpuday.schedules.stages import Stages

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


@pytest.mark.parametrize(
    ("path", "value", "where"), [("data.length", 130, "data.length"), ("train.isolate", True, "train.isolate")]
)
def test_rows_that_a_shape_cannot_average_are_refused_before_anything_is_prepared(path, value, where):
    """Lengths that its groups do not divide, and documents that averages would mix."""
    funnel = {"part": "funnel", "stages": [1, 1], "factor": 4}
    recipe = config.replace_at(find("modern")("nano", TEN_MINUTES), "model.shape", funnel)
    with pytest.raises(UsageError, match="averages") as caught:
        config.replace_at(recipe, path, value)
    assert caught.value.where == where


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


def test_a_recipe_of_before_the_schedules_of_decay_dropout_and_length_is_read():
    """What its file lacks is what it was: whole throughout, and a batch that listens to no noise."""
    recipe = find("modern")("nano", TEN_MINUTES)
    values = json.loads(json.dumps(config.to_dict(recipe)))
    for name in ("decay", "dropout", "length"):
        del values[name]
    for name in ("noise", "noise_every"):
        del values["batch"][name]
    del values["train"]["dropout_levels"]
    assert config.from_dict(Recipe, values) == recipe


IMPOSSIBLE = {
    "blocks to leave out, and nothing is dropped": (
        {"model": {"layer_drop": 0.1}},
        "nothing is dropped in pretraining",
    ),
    "a schedule of what is off": ({"dropout": {"part": "ramp"}}, "dropout has a schedule"),
    "all dropped": (
        {"train": {"dropout": True}, "model": {"dropout": 0.5}, "dropout": {"part": "constant", "value": 2.0}},
        "dropout comes to 1",
    ),
    "pieces of odd rows": ({"data": {"length": 33}, "length": {"part": "ramp"}}, "cannot be cut into shorter ones"),
    "two who say how many rows": (
        {"batch": {"noise": 1.0, "ramp": {"part": "ramp"}}},
        "a ramp and the gradient's noise",
    ),
    "steps that predict nothing": ({"mask_rate": {"part": "triangle"}}, "no token of a row is predicted"),
    "rows of no tokens": ({"length": {"part": "cosine"}}, "rows would have fewer than 8 tokens"),
    "no rate at all": ({"rate": {"part": "constant", "value": 0.0}}, "the learning rate is 0 throughout"),
    "too many levels": ({"train": {"dropout_levels": 9}}, "dropout_levels is 9"),
    "a falling rate under a method that takes its place": ({"optimizer": {"part": "schedule_free"}}, "the rate falls"),
    "the same within another": ({"optimizer": {"part": "sam", "inner": {"part": "schedule_free"}}}, "the rate falls"),
    "a rate that falls and is as low at half time": (
        {"optimizer": {"part": "schedule_free"}, "rate": {"part": "multi_cycle", "cycles": 2}},
        "the rate falls",
    ),
}


@pytest.mark.parametrize(("changes", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_schedules_that_cannot_be_followed_are_refused(changes, message):
    """When the recipe is made, with what to do about it; never passed over in silence."""
    with pytest.raises(UsageError, match=message) as caught:
        config.merge(find("modern")("nano", TEN_MINUTES), changes)
    assert caught.value.fix


@pytest.mark.parametrize("rate", [{"part": "constant", "warmup": 0.02}, {"part": "ramp", "until": 0.3}])
def test_schedule_free_takes_a_rate_that_only_rises(rate):
    """In a straight line to where it stays, by either schedule that has one; it is what the refusal asks for."""
    recipe = config.merge(find("modern")("nano", TEN_MINUTES), {"optimizer": {"part": "schedule_free"}, "rate": rate})
    assert recipe.rate(1.0) == 1.0


@pytest.mark.parametrize("part", ["mlm", "hybrid", "rtd", "script"])
def test_a_mask_rate_beyond_all_tokens_is_refused(part):
    """Every token would be masked, without a word: the rate times the schedule's greatest value, for each objective; and
    all of them, but no more, may be asked for."""
    recipe = config.replace_at(find("modern")("nano", TEN_MINUTES), "objective", {"part": part})
    inside = recipe.objective.mlm if part != "mlm" else recipe.objective
    most = 1.0 / inside.rate
    with pytest.raises(UsageError, match="is more than all of them") as caught:
        config.replace_at(recipe, "mask_rate", {"part": "ramp", "start": most * 1.01, "end": 0.5})
    assert caught.value.where == "mask_rate" and f"at most {most:.3g}" in caught.value.fix
    assert config.replace_at(recipe, "mask_rate", {"part": "ramp", "start": most, "end": 0.5}).mask_rate.start == most


def test_a_dropout_that_is_too_much_for_a_moment_is_refused():
    """Between two hundredths of the budget, too."""
    stage = Stages(stages=((0.502, 0.5), (0.508, 1.0), (1.0, 0.5)))
    assert extent(stage) == (0.5, 1.0)
    recipe = find("modern")("nano", TEN_MINUTES)
    model, train = dataclasses.replace(recipe.model, dropout=0.6), dataclasses.replace(recipe.train, dropout=True)
    most = Ramp(start=1.7, end=0.1, until=0.009, warmup=0.004)
    with pytest.raises(UsageError, match=r"dropout comes to 1\.0"):
        dataclasses.replace(recipe, model=model, train=train, dropout=most)


ENDS_ABOVE_NOTHING = {("mask_rate", "constant"), ("mask_rate", "stages"), ("length", "constant"), ("length", "stages")}


@pytest.mark.parametrize("slot", ["mask_rate", "length"])
@pytest.mark.parametrize("shape", parts.names(Schedule))
def test_what_a_schedule_to_nothing_is_told_to_set_makes_it_one_that_is_taken(slot, shape):
    """Most shapes begin or end at nothing by default: refused by name, with knobs that mend it, word for word."""
    recipe = config.replace_at(find("modern")("nano", TEN_MINUTES), "mask_rate", "constant")
    if (slot, shape) in ENDS_ABOVE_NOTHING:
        assert extent(getattr(config.replace_at(recipe, slot, shape), slot)) == (1.0, 1.0)
        return
    with pytest.raises(UsageError, match="falls to 0 of its peak") as caught:
        config.replace_at(recipe, slot, shape)
    assert caught.value.where == slot
    told = caught.value.fix.removeprefix("set ").partition(", or ")[0].split(" and ")
    knobs = {key: float(value) for key, _, value in (item.removeprefix(f"{slot}.").partition("=") for item in told)}
    low, high = extent(getattr(config.replace_at(recipe, slot, {"part": shape, **knobs}), slot))
    assert 0.0 < low < high


def test_a_schedule_that_no_knob_lifts_is_refused_all_the_same():
    """Stages say their levels themselves; the control takes its place."""
    nothing = {"part": "stages", "stages": [[0.5, 0.0], [1.0, 1.0]]}
    with pytest.raises(UsageError, match="falls to 0 of its peak") as caught:
        config.replace_at(find("modern")("nano", TEN_MINUTES), "mask_rate", nothing)
    assert caught.value.fix == "give another shape, such as mask_rate=constant"


def test_a_rate_and_a_batch_may_begin_at_nothing():
    """A step at a rate of 0 fills the optimizer's averages, and a batch has its least tokens."""
    changes = {"rate": {"part": "linear"}, "batch": {"ramp": {"start": 0.0}}, "decay": {"part": "cosine"}}
    recipe = config.merge(find("modern")("nano", TEN_MINUTES), changes)
    assert (recipe.rate(0.0), recipe.batch.ramp(0.0), recipe.decay(1.0)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("mixer", "where"),
    [
        ({"part": "softmax", "theta": 500.0}, "model.mixer.theta"),
        ({"part": "softmax", "window": 64, "local_theta": 500.0}, "model.mixer.local_theta"),
        ({"part": "hybrid", "upper": {"part": "cosine", "theta": 500.0}}, "model.mixer.upper.theta"),
    ],
)
@pytest.mark.parametrize("position", ["alibi", "learned", "none"])
def test_wavelengths_without_rotary_positions_are_refused(mixer, where, position):
    """Nothing would read them; with rotary ones they are taken, and so is a mixer at its defaults without."""
    recipe = find("modern")("nano", TEN_MINUTES)
    with pytest.raises(UsageError, match="rotary wavelengths") as caught:
        config.merge(recipe, {"model": {"mixer": mixer, "position": position}})
    assert caught.value.where == where
    assert config.merge(recipe, {"model": {"mixer": mixer}}).model.position == "rotary"
    assert config.merge(recipe, {"model": {"position": position}}).model.position == position
