"""Fitting: measured once, pinned for the run, shared between seeds, and every choice by its rule."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import gpuday.train.fit as fitting
from gpuday.core import config
from gpuday.core.errors import EnvironmentFault, FitError, UsageError
from gpuday.core.rundir import read_json, write_json
from gpuday.objectives import Vocabulary
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner
from gpuday.train.fit import Fit, fit

MakeRecipe = Callable[..., Recipe]
FitTo = Callable[..., Fit]
LENGTH = 32


class Device:
    """Stands for the device: rows a second by micro-batch, from which size on memory ends, and what was tried."""

    def __init__(self) -> None:
        self.tried: list[int] = []
        self.speed: Callable[[int], float] = lambda rows: 100.0
        self.most_rows = 10**9

    def __call__(self, recipe: Recipe, learner: torch.nn.Module, rows: int, *_: Any) -> float:
        self.tried.append(rows)
        if rows > self.most_rows:
            raise torch.OutOfMemoryError("out of memory")
        return rows / self.speed(rows)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """The measurement of a step's seconds is replaced; the bound and the rest are real."""
    made = Device()
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_step_seconds", made)
        patch.setattr(fitting, "measure_bound", lambda *_: 1e10)
        yield made


@pytest.fixture
def fit_to(tmp_path: Path, vocabulary: Vocabulary) -> FitTo:
    """Fit a recipe for the run `name`, with a cache of this test's own."""

    def go(recipe: Recipe, name: str = "run", *, heldout_rows: int = 1000) -> Fit:
        return fit(
            recipe,
            device=torch.device("cpu"),
            make_learner=lambda: make_learner(recipe, vocab=vocabulary.size),
            vocabulary=vocabulary,
            heldout_rows=heldout_rows,
            pinned=tmp_path / name / "fit.json",
            cache=tmp_path / "cache",
        )

    return go


def test_a_fit_is_measured_on_the_real_learner(fit_to: FitTo, make_recipe: MakeRecipe) -> None:
    """Nothing replaced: a speed and a bound above zero, and what the recipe fixes is as the recipe says."""
    found = fit_to(make_recipe("10m"))
    assert found.tokens_per_second > 0 and found.bound_flops_per_second > 0
    assert (found.microbatch, found.rows, found.dtype, found.compiled) == (4, 8, "float32", False)
    assert "threads" in found.device
    assert found.notices == ()


def test_the_pinned_answer_is_taken_whatever_the_device_says_now(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, tmp_path: Path
) -> None:
    """A resume on a busier machine trains as the run began; the file is the whole truth."""
    recipe = make_recipe("10m", train__microbatch=0)
    first = fit_to(recipe)
    device.speed = lambda rows: 1.0 + rows
    assert fit_to(recipe) == first
    pinned = tmp_path / "run" / "fit.json"
    write_json(pinned, {**read_json(pinned), "microbatch": 3, "notices": ["by hand"]})
    again = fit_to(recipe)
    assert (again.microbatch, again.notices) == (3, ("by hand",))


def test_seeds_of_one_recipe_share_a_measurement(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """Arms of a comparison train alike; another recipe, or other held-out text, is measured anew."""
    fit_to(make_recipe("10m"), "a")
    assert len(device.tried) == 1
    assert fit_to(make_recipe("10m", seed=7), "b") == fit_to(make_recipe("10m"), "a")
    assert len(device.tried) == 1
    fit_to(make_recipe("10m", model__width=64), "c")
    fit_to(make_recipe("10m"), "d", heldout_rows=999)
    assert len(device.tried) == 3


def test_another_device_is_measured_anew(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache on a shared disk does not tell one machine what another can do."""
    fit_to(make_recipe("10m"), "a")
    monkeypatch.setattr(fitting, "describe", lambda _: "another machine")
    assert fit_to(make_recipe("10m"), "b").device == "another machine"
    assert len(device.tried) == 2


def test_a_run_is_not_resumed_on_another_device(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds of two devices do not add up: refused, with both names."""
    fit_to(make_recipe("10m"))
    monkeypatch.setattr(fitting, "describe", lambda _: "another machine")
    with pytest.raises(UsageError, match="this is another machine") as caught:
        fit_to(make_recipe("10m"))
    assert "--out" in caught.value.fix


def test_a_pinned_file_of_another_version_is_refused_by_name(
    fit_to: FitTo, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Never half understood."""
    write_json(tmp_path / "run" / "fit.json", {"microbatch": 4, "surprise": 1})
    with pytest.raises(UsageError, match=r"fit\.json\.surprise"):
        fit_to(make_recipe("10m"))


def test_a_fit_survives_json(pinned: Fit) -> None:
    """The file holds every field."""
    fit = dataclasses.replace(pinned, notices=("a", "b"))
    assert config.from_dict(Fit, config.to_dict(fit)) == fit


def test_the_micro_batch_of_the_recipe_is_the_only_one_tried(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device
) -> None:
    """What a person fixed is not searched."""
    assert fit_to(make_recipe("10m", train__microbatch=6, batch__rows=16)).microbatch == 6
    assert device.tried == [6]


@pytest.mark.parametrize(
    ("speeds", "wanted"),
    [
        ({64: 100, 128: 101, 256: 102}, 64),
        ({64: 90, 128: 99, 256: 100}, 128),
        ({64: 50, 128: 70, 256: 100}, 256),
        ({64: 100, 128: 80, 256: 60}, 64),
    ],
)
def test_the_smallest_micro_batch_near_the_fastest_is_taken(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, speeds: dict[int, float], wanted: int
) -> None:
    """Within 5%; its own measured speed is what the budget is planned with."""
    device.speed = lambda rows: speeds[rows]
    found = fit_to(make_recipe("10m", train__microbatch=0, batch__rows=512))
    assert found.microbatch == wanted
    assert found.tokens_per_second == pytest.approx(speeds[wanted] * LENGTH)


def test_a_size_that_does_not_fit_ends_the_search(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """Memory for 100 rows: 64 it is, and 256 is not tried after 128."""
    device.most_rows, device.speed = 100, float
    assert fit_to(make_recipe("10m", train__microbatch=0, batch__rows=512)).microbatch == 64
    assert device.tried == [64, 128]


@pytest.mark.parametrize("microbatch", [0, 4])
def test_what_does_not_fit_at_all_says_what_to_do(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, tmp_path: Path, microbatch: int
) -> None:
    """Exit code 4, the device, a smaller size; and nothing is pinned or cached."""
    device.most_rows = 0
    with pytest.raises(FitError, match="nano does not fit") as caught:
        fit_to(make_recipe("10m", train__microbatch=microbatch))
    assert caught.value.exit_code == 4
    assert "smaller --size" in caught.value.fix
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()


def test_a_slow_device_does_not_hold_up_the_run(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a quarter of the minute no larger size is tried."""
    seconds = iter([0.0, 20.0, 40.0, 60.0, 80.0])
    monkeypatch.setattr("gpuday.train.fit.time.perf_counter", lambda: next(seconds))
    fit_to(make_recipe("10m", train__microbatch=0, batch__rows=512))
    assert device.tried == [64]


@pytest.mark.parametrize(("rows", "microbatch"), [(80, 40), (128, 64), (130, 44), (64, 64), (8, 8)])
def test_micro_batches_are_as_even_as_they_come(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, rows: int, microbatch: int
) -> None:
    """Where 64 rows are best: no fewer pieces than needed, and none that is mostly padding."""
    found = fit_to(make_recipe("10m", train__microbatch=0, batch__rows=rows))
    assert (found.rows, found.microbatch) == (rows, microbatch)


def test_a_micro_batch_is_never_larger_than_the_step(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """Padding half of every micro-batch would waste half of the time."""
    assert fit_to(make_recipe("10m", train__microbatch=64, batch__rows=16)).microbatch == 16


def test_the_batch_of_a_wall_clock_run_follows_the_expected_tokens(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device
) -> None:
    """By the recipe's rule, at 0.9 of the measured speed: worked by hand for 100 rows/s over ten minutes."""
    recipe = make_recipe("10m", batch__rows=0)
    found = fit_to(recipe)
    expected = 600 * 0.9 * 100 * LENGTH
    assert found.expected_tokens == pytest.approx(expected)
    tokens = max(4096, (1 << 20) * (expected / 9.1e9) ** 0.617)
    assert found.rows == recipe.batch.full_rows(expected_tokens=expected, length=LENGTH)
    assert 0.75 < found.rows / (tokens / LENGTH) < 1.34  # the rule rounds
    longer = fit_to(make_recipe("1h", batch__rows=0), "longer")
    assert longer.rows > found.rows


@pytest.mark.parametrize(("budget", "tokens"), [("1e7tok", 1e7), ("50steps", 50 * 8 * LENGTH)])
def test_a_budget_that_names_its_tokens_is_taken_at_its_word(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, budget: str, tokens: float
) -> None:
    """No speed enters: the fit of such a run is the same on every machine."""
    assert fit_to(make_recipe(budget)).expected_tokens == tokens


def test_a_budget_in_flops_expects_what_they_pay_for(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """Twice the FLOPs, twice the tokens."""
    one, two = (fit_to(make_recipe(b), b).expected_tokens for b in ("1e12flop", "2e12flop"))
    assert two == pytest.approx(2 * one)
    assert one > 0


def test_a_look_takes_two_percent_of_the_budget_at_most(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """A power of two rows, 64 at least, all of them where there is time; looking is three times as fast as training."""
    device.speed = lambda rows: 50.0
    rows = [fit_to(make_recipe(b), b, heldout_rows=100_000).heldout_rows for b in ("10s", "10m", "1h", "12h")]
    assert rows == [64, 1024, 8192, 100_000]  # of 30, 1,800, 10,800 and 129,600 rows in 2% of the budget
    assert fit_to(make_recipe("10s"), "few", heldout_rows=20).heldout_rows == 20


@pytest.mark.parametrize(("instructions", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bf16_where_the_device_has_it(
    fit_to: FitTo,
    make_recipe: MakeRecipe,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    instructions: bool,
    dtype: str,
) -> None:
    """Emulated bf16 is slower than fp32, so that it is not taken there."""
    monkeypatch.setattr(fitting, "has_bf16", lambda _: instructions)
    assert fit_to(make_recipe("10m", train__dtype="auto")).dtype == dtype
    assert fit_to(make_recipe("10m", train__dtype="bfloat16"), "fixed").dtype == "bfloat16"


@pytest.mark.parametrize(("budget", "compiled"), [("10m", True), ("2m", True), ("59s", False), ("20s", False)])
def test_compiling_must_pay(
    fit_to: FitTo,
    make_recipe: MakeRecipe,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    budget: str,
    compiled: bool,
) -> None:
    """Two layers cost about 20 s, a third of a minute: shorter budgets run eager and say why; `on` and `off` decide."""
    monkeypatch.setattr(fitting, "compile_fault", lambda _: "")
    found = fit_to(make_recipe(budget, train__compile="auto"))
    assert found.compiled is compiled
    assert [n for n in found.notices if "compiling would take about 20 s" in n] == list(found.notices)
    assert bool(found.notices) is not compiled
    assert fit_to(make_recipe(budget, train__compile="on"), "on").compiled
    assert not fit_to(make_recipe(budget, train__compile="off"), "off").compiled


def test_without_a_compiler_a_run_is_eager_with_a_notice(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is named; a recipe that insists on compiling is refused with exit code 5."""
    monkeypatch.setattr(fitting, "compile_fault", lambda _: "no C++ compiler was found")
    found = fit_to(make_recipe("10m", train__compile="auto"))
    assert not found.compiled
    assert len(found.notices) == 1 and "C++ compiler" in found.notices[0]
    with pytest.raises(EnvironmentFault, match=r"train\.compile is on") as caught:
        fit_to(make_recipe("10m", train__compile="on"), "on")
    assert caught.value.exit_code == 5


def test_a_compiled_run_expects_more_tokens(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gain is part of the plan, so that the batch suits what the run will read."""
    monkeypatch.setattr(fitting, "compile_fault", lambda _: "")
    eager, compiled = (fit_to(make_recipe("10m", train__compile=c), c).expected_tokens for c in ("off", "auto"))
    assert compiled == pytest.approx(fitting.COMPILE_GAIN * eager)
