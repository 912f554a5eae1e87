"""Fitting: measured once, pinned for the run, shared between seeds, and every choice with its reason."""

import dataclasses
from collections.abc import Callable
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
from gpuday.train.compiling import EAGER, Mode
from gpuday.train.fit import Fit, Reasons, fit
from gpuday.train.trial import OptimizerCost, Point

MakeRecipe = Callable[..., Recipe]
FitTo = Callable[..., Fit]
LENGTH = 32


class Device:
    """Stands for the device: rows a second by micro-batch, from which size on memory ends, and what was tried."""

    def __init__(self) -> None:
        self.tried: list[int] = []
        self.measured = 0
        self.speed: Callable[[int], float] = lambda rows: 100.0
        self.most_rows = 10**9
        self.update = OptimizerCost(seconds=0.0, more_gradients=0)
        self.room = 10**12
        self.faster = {"causal": 1.0, "masked": 1.0}  # times as fast as the largest, of which the points are
        self.mode = EAGER

    def __call__(self, *_: Any, **__: Any) -> "Device":
        self.measured += 1
        return self

    def point(self, rows: int) -> Point:
        self.tried.append(rows)
        if rows > self.most_rows:
            raise torch.OutOfMemoryError("out of memory")
        return Point(rows=rows, seconds=rows / self.speed(rows), bytes=1000 * rows, spent=0.0)

    def seconds(self, rows: int) -> dict[str, float]:
        return {kind: rows / self.speed(rows) / times for kind, times in self.faster.items()}

    def optimizer(self) -> OptimizerCost:
        return self.update

    def choose_mode(self, *_: Any, **__: Any) -> tuple[Mode, str, tuple[str, ...]]:
        return self.mode, "by a test", ()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """The trial is replaced, and time for it without end; the rest is real."""
    made = Device()
    monkeypatch.setattr(fitting, "Trial", made)
    monkeypatch.setattr(fitting, "choose_mode", made.choose_mode)
    monkeypatch.setattr(fitting, "measure_bound", lambda *_: 1e10)
    monkeypatch.setattr(fitting.Allowance, "left", lambda self, share=1.0: 1e9)
    return made


@pytest.fixture
def fit_to(tmp_path: Path, vocabulary: Vocabulary) -> FitTo:
    """Fit a recipe for the run `name`, with a cache of this test's own."""

    def go(recipe: Recipe, name: str = "run", *, heldout_rows: int = 1000, ranks: int = 1) -> Fit:
        return fit(
            recipe,
            device=torch.device("cpu"),
            make_learner=lambda: make_learner(recipe, vocab=vocabulary.size),
            vocabulary=vocabulary,
            heldout_rows=heldout_rows,
            pinned=tmp_path / name / "fit.json",
            cache=tmp_path / "cache",
            ranks=ranks,
        )

    return go


def test_a_fit_is_measured_on_the_real_learner(fit_to: FitTo, make_recipe: MakeRecipe) -> None:
    """Nothing replaced: figures above zero, what the recipe fixes as it says, and a reason for everything."""
    found = fit_to(make_recipe("10m"))
    assert found.tokens_per_second > 0 and found.bound_flops_per_second > 0
    assert found.optimizer_seconds > 0 and 0 < found.fit_seconds < 60
    assert (found.microbatch, found.rows, found.dtype, found.compiled) == (4, 8, "float32", False)
    assert found.compile_basis == "none"
    assert found.notices == ()


def test_every_choice_has_its_reason(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """One sentence each, with the figures it rests on."""
    device.speed = lambda rows: {64: 90.0, 128: 100.0}[rows]
    device.most_rows = 128
    reasons = fit_to(make_recipe("10m", train__microbatch=0, batch__rows=512)).reasons
    assert [name for name, why in dataclasses.asdict(reasons).items() if not why] == []
    assert reasons.microbatch.startswith("128 rows: ")
    assert "64 rows 2,880, 128 rows 3,200; 256 ran out of memory" in reasons.microbatch
    assert "OMP_NUM_THREADS" in reasons.threads
    assert "batch.rows" in reasons.batch


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
    """Arms of a comparison train alike; another recipe, other held-out text, more ranks are measured anew."""
    fit_to(make_recipe("10m"), "a")
    assert device.measured == 1
    assert fit_to(make_recipe("10m", seed=7), "b") == fit_to(make_recipe("10m"), "a")
    assert device.measured == 1
    fit_to(make_recipe("10m", model__width=64), "c")
    fit_to(make_recipe("10m"), "d", heldout_rows=999)
    fit_to(make_recipe("10m"), "e", ranks=2)
    assert device.measured == 4


def test_another_device_is_measured_anew(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache on a shared disk does not tell one machine what another can do, or this one with other threads."""
    fit_to(make_recipe("10m"), "a")
    monkeypatch.setattr(fitting, "describe", lambda _: "another machine")
    assert fit_to(make_recipe("10m"), "b").device == "another machine"
    monkeypatch.setattr(fitting, "thread_candidates", lambda _: [3])
    monkeypatch.setattr(fitting, "configure", lambda *_, **__: None)
    assert fit_to(make_recipe("10m"), "c").threads == 3
    assert device.measured == 3


def test_a_run_is_not_resumed_on_another_device(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds of two devices do not add up: refused, with both names."""
    fit_to(make_recipe("10m"))
    monkeypatch.setattr(fitting, "describe", lambda _: "another machine")
    with pytest.raises(UsageError, match="this is another machine") as caught:
        fit_to(make_recipe("10m"))
    assert "--out" in caught.value.fix


@pytest.mark.parametrize("told", ["1", "2", ""])
def test_a_resume_takes_the_pinned_threads_whatever_it_is_told(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """OMP_NUM_THREADS of the second attempt changes nothing; it is the same hardware."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    first = fit_to(make_recipe("10m"))
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert fit_to(make_recipe("10m")).threads == first.threads == 1


def test_more_threads_than_cores_are_refused(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same machine with fewer cores for this process is a slower device."""
    fit_to(make_recipe("10m"))
    pinned = tmp_path / "run" / "fit.json"
    write_json(pinned, {**read_json(pinned), "threads": 8})
    monkeypatch.setattr(fitting, "cores", lambda: 4)
    with pytest.raises(UsageError, match=r"with 8 threads; this is 4 cores"):
        fit_to(make_recipe("10m"))
    monkeypatch.setattr(fitting, "cores", lambda: 8)
    assert fit_to(make_recipe("10m")).threads == 8


def test_a_pinned_file_of_another_version_is_refused_by_name(
    fit_to: FitTo, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Never half understood."""
    write_json(tmp_path / "run" / "fit.json", {"microbatch": 4, "surprise": 1})
    with pytest.raises(UsageError, match=r"fit\.json\.surprise"):
        fit_to(make_recipe("10m"))


def test_a_fit_survives_json(pinned: Fit) -> None:
    """The file holds every field."""
    fit = dataclasses.replace(pinned, notices=("a", "b"), reasons=Reasons(memory="c"), compile_basis="estimated")
    assert config.from_dict(Fit, config.to_dict(fit)) == fit


def test_the_micro_batch_of_the_recipe_is_the_only_one_tried(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device
) -> None:
    """What a person fixed is not searched."""
    found = fit_to(make_recipe("10m", train__microbatch=6, batch__rows=16))
    assert found.microbatch == 6 and "train.microbatch" in found.reasons.microbatch
    assert set(device.tried) == {6}


def test_the_smallest_micro_batch_near_the_fastest_is_taken(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device
) -> None:
    """Within 5%; its own measured speed is what the budget is planned with."""
    speeds = {64: 90.0, 128: 99.0, 256: 100.0, 512: 98.0}
    device.speed = lambda rows: speeds[rows]
    found = fit_to(make_recipe("10m", train__microbatch=0, batch__rows=512))
    assert found.microbatch == 128
    assert found.tokens_per_second == pytest.approx(99.0 * LENGTH)
    assert found.memory_bytes == 128_000


def test_the_budget_is_planned_with_each_kind_of_step_in_its_share(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device
) -> None:
    """By hand: causal steps at 3,200 tokens/s and masked ones at twice that. Over time, a quarter of the one and the rest
    of the other are 5,600; over tokens, seconds add up instead. Memory is that of the largest kind."""
    device.faster = {"causal": 1.0, "masked": 2.0}
    clock = fit_to(make_recipe("10m", batch__rows=512, train__microbatch=64))
    assert clock.tokens_per_second == pytest.approx(5600.0)
    assert clock.expected_tokens == pytest.approx(0.95 * 600 * 5600.0)
    counted = fit_to(make_recipe("1e6tok", batch__rows=512, train__microbatch=64), "counted")
    assert counted.tokens_per_second == pytest.approx(1 / (0.25 / 3200 + 0.75 / 6400))
    assert clock.memory_bytes == counted.memory_bytes == 64_000


def test_a_size_beyond_the_free_memory_is_not_tried(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """1,000 bytes a row and room for 200,000: 128 rows it is, 256 are only predicted."""
    device.room, device.speed = 200_000, float
    assert fit_to(make_recipe("10m", train__microbatch=0, batch__rows=512)).microbatch == 128
    assert max(device.tried) == 128


def test_a_size_that_does_not_fit_ends_the_search(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """Memory for 100 rows: 64 it is, and 256 is not tried after 128."""
    device.most_rows, device.speed = 100, float
    assert fit_to(make_recipe("10m", train__microbatch=0, batch__rows=512)).microbatch == 64
    assert max(device.tried) == 128


def test_fewer_rows_are_tried_where_the_optimizer_leaves_less_memory(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 rows fit until its state is there; beside it 16 do, with which the run is planned."""
    device.speed = float

    def optimizer() -> OptimizerCost:
        device.most_rows = 20
        return device.update

    monkeypatch.setattr(device, "optimizer", optimizer)
    assert fit_to(make_recipe("10m", train__microbatch=0, batch__rows=512)).microbatch == 16
    assert device.tried == [64, 64, 32, 16, 16]


@pytest.mark.parametrize("name", ["a", "b"])
def test_every_compiled_run_starts_its_compiler_before_the_clock(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """With a pinned fit and a cached one like with a measured one; where it cannot be started, exit code 5 says so."""
    device.mode = Mode(gain=2.0, seconds=70.0, basis="measured")
    fit_to(make_recipe("10m"), "a")
    started: list[torch.device] = []
    monkeypatch.setattr(fitting, "start_compiler", lambda device: started.append(device) or "")
    fit_to(make_recipe("10m"), name)
    assert started == [torch.device("cpu")]
    (tmp_path / "b" / "fit.json").unlink(missing_ok=True)
    monkeypatch.setattr(fitting, "start_compiler", lambda device: "no C++ compiler was found")
    with pytest.raises(EnvironmentFault, match=r"no C\+\+ compiler was found") as caught:
        fit_to(make_recipe("10m"), name)
    assert caught.value.exit_code == 5


def test_an_eager_run_starts_no_compiler(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait seconds for nothing."""
    monkeypatch.setattr(fitting, "start_compiler", pytest.fail)
    assert fit_to(make_recipe("10m"), "a") == fit_to(make_recipe("10m"), "a") == fit_to(make_recipe("10m"), "b")


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


def test_a_short_budget_waits_for_no_second_measurement(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few steps: one size is measured, once."""
    monkeypatch.setattr(fitting.Allowance, "left", lambda self, share=1.0: -1.0)
    found = fit_to(make_recipe("3steps", train__microbatch=0, batch__rows=512))
    assert device.tried == [64]
    assert "no time" in found.reasons.microbatch


def test_a_fault_of_the_model_is_not_called_a_lack_of_memory(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows itself as it is."""

    def fail(rows: int) -> Point:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(device, "point", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit_to(make_recipe("10m"))


@pytest.mark.parametrize(("rows", "microbatch"), [(80, 40), (128, 64), (130, 44), (64, 64), (8, 8)])
def test_micro_batches_are_as_even_as_they_come(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, rows: int, microbatch: int
) -> None:
    """Where 64 rows are best: no fewer pieces than needed, and none that is mostly padding."""
    found = fit_to(make_recipe("10m", train__microbatch=0, batch__rows=rows))
    assert (found.rows, found.microbatch) == (rows, microbatch)


def test_a_micro_batch_is_never_larger_than_the_step(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """Padding half of every micro-batch would waste half of the time; the reason says what was told, and why it is less."""
    found = fit_to(make_recipe("10m", train__microbatch=64, batch__rows=16))
    assert found.microbatch == 16
    assert found.reasons.microbatch.startswith("16 rows of the 64 that train.microbatch allows: a device has no more")


def test_several_devices_share_a_step(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """128 rows on four devices are 32 for each, and the budget reads four times as much."""
    one, four = (
        fit_to(make_recipe("10m", train__microbatch=0, batch__rows=128), str(ranks), ranks=ranks) for ranks in (1, 4)
    )
    assert (one.microbatch, four.microbatch) == (64, 32)
    assert four.expected_tokens == pytest.approx(4 * one.expected_tokens)


def test_a_compiled_run_expects_more_tokens(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """Gain and seconds are part of the plan, so that the batch suits what the run will read; by hand for ten minutes."""
    device.mode = Mode(gain=2.0, seconds=70.0, basis="measured")
    found = fit_to(make_recipe("10m"))
    assert found.expected_tokens == pytest.approx((570 - 70) * 2 * 100 * LENGTH)
    assert (found.compiled, found.compile_gain, found.compile_seconds) == (True, 2.0, 70.0)
    assert found.compile_basis == "measured"


def test_a_look_takes_two_percent_of_the_budget_at_most(fit_to: FitTo, make_recipe: MakeRecipe, device: Device) -> None:
    """A power of two rows, 64 at least, all of them where there is time; looking is three times as fast as training."""
    device.speed = lambda rows: 50.0
    rows = [fit_to(make_recipe(b), b, heldout_rows=100_000).heldout_rows for b in ("10s", "10m", "1h", "12h")]
    assert rows == [64, 1024, 8192, 100_000]  # of 30, 1,800, 10,800 and 129,600 rows in 2% of the budget
    assert fit_to(make_recipe("10s"), "few", heldout_rows=20).heldout_rows == 20


def test_a_run_trains_with_the_pinned_threads_and_mode(
    train_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the process began with; compiling is replaced by nothing here."""
    modes: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda call, *, mode, **_: modes.append(mode) or call)
    before = torch.get_num_threads()
    try:
        train_run(fit={"threads": before + 1, "compiled": True, "compile_mode": "max-autotune-no-cudagraphs"})
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert set(modes) == {"max-autotune-no-cudagraphs"}


@pytest.mark.parametrize(("microbatch", "ranks", "wanted"), [(0, 1, 64), (0, 16, 32), (100, 1, 100), (100, 4, 100)])
def test_a_batch_that_follows_the_noise_is_read_in_the_micro_batches_of_its_full_step(
    fit_to: FitTo, make_recipe: MakeRecipe, device: Device, microbatch: int, ranks: int, wanted: int
) -> None:
    """As large as without it, whatever the least step is, and what a person fixed is kept: 64 rows are best here, 16 ranks
    get 32 of 512 each."""
    recipe = make_recipe("10m", train__microbatch=microbatch, batch__rows=512, batch__noise=1.0, batch__least_tokens=64)
    found = fit_to(recipe, ranks=ranks)
    assert (found.microbatch, found.rows) == (wanted, 512)
    assert found.reasons.microbatch.startswith(f"{wanted} rows")
    assert ("as train.microbatch says" in found.reasons.microbatch) == (microbatch == 100)
