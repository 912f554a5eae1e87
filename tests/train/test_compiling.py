"""Compile or eager: the arithmetic by hand, the trial without a compiler's minutes."""

import collections
import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpuday.core.errors import EnvironmentFault
from gpuday.models.mixers.hybrid import Hybrid
from gpuday.models.shapes.plain import Plain
from gpuday.objectives import Vocabulary
from gpuday.recipe import Recipe
from gpuday.train import compiling
from gpuday.train.compiling import EAGER, Mode, best_mode, choose_mode

CPU = torch.device("cpu")
MakeRecipe = Callable[..., Recipe]
Choose = Callable[..., tuple[Mode, str, tuple[str, ...]]]


def mode(gain: float, seconds: float, *, basis: Any = "measured", name: str = "default") -> Mode:
    return Mode(gain=gain, seconds=seconds, basis=basis, name=name)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine that compiles in 20 s and gains double; the modes that were tried."""
    names: list[str] = []

    def few_blocks(recipe: Recipe, name: str, *_: Any) -> Mode:
        names.append(name)
        return mode(2.0, 20.0, name=name)

    monkeypatch.setattr(compiling, "compile_fault", lambda device: "")
    monkeypatch.setattr(compiling, "_few_blocks", few_blocks)
    monkeypatch.setattr(compiling, "_uncharged", contextlib.nullcontext)
    return names


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A machine that compiles small kernels and not the learner; the folders of the compiler's caches meanwhile."""
    folders: list[Path] = []

    def fail(*_: Any, **__: Any) -> Any:
        folders.append(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]))
        raise AssertionError("graph break in a part\nand a hundred lines more")

    monkeypatch.setattr(compiling, "compile_fault", lambda device: "")
    monkeypatch.setattr(torch, "compile", fail)
    return folders


@pytest.fixture
def choose(make_recipe: MakeRecipe, vocabulary: Vocabulary) -> Choose:
    """`choose(wanted, seconds, left)` for the tiny recipe on the CPU."""

    def go(wanted: str, seconds: float, left: float = 60.0, device: torch.device = CPU) -> Any:
        recipe = make_recipe("10m", train__compile=wanted)
        options = {"dtype": torch.float32, "device": device, "vocabulary": vocabulary}
        return choose_mode(recipe, rows=4, seconds=seconds, seconds_left=left, **options)

    return go


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(600.0, True), (60.0, True), (43.0, True), (42.0, False), (40.0, False), (10.0, False)]
)
def test_compiling_must_be_repaid_with_five_percent_more(seconds: float, wanted: bool) -> None:
    """By hand: twice as fast after 20 s reads more than eager from 40 s on, and 5% more from 42.1 s on."""
    assert best_mode([EAGER, mode(2.0, 20.0)], seconds=seconds).compiled is wanted


def test_compiling_that_gains_nothing_is_never_chosen() -> None:
    """Not in a day."""
    assert best_mode([EAGER, mode(1.0, 20.0)], seconds=86_400.0) == EAGER


@pytest.mark.parametrize(("seconds", "wanted"), [(100.0, "default"), (3600.0, "max-autotune-no-cudagraphs")])
def test_a_costlier_mode_needs_a_longer_budget(seconds: float, wanted: str) -> None:
    """A quarter faster again after 80 s more: 100 s do not repay it, an hour does."""
    modes = [EAGER, mode(2.0, 20.0), mode(2.5, 100.0, name="max-autotune-no-cudagraphs")]
    assert best_mode(modes, seconds=seconds).name == wanted


def test_what_was_measured_is_taken_and_said(choose: Choose, tried: list[str]) -> None:
    """The reason holds gain, seconds and that they were measured."""
    found, why, notices = choose("auto", 600.0)
    assert (found.compiled, found.basis, notices) == (True, "measured", ())
    assert "2 times as fast, 20 s to compile, measured" in why
    assert tried == ["default"]


def test_a_gpu_tries_the_mode_that_tunes_its_products(choose: Choose, tried: list[str]) -> None:
    """A CPU does not: it has no such products to choose from."""
    choose("auto", 600.0, device=torch.device("cuda"))
    assert tried == ["default", "max-autotune-no-cudagraphs"]


def test_without_time_for_a_trial_the_figures_are_an_estimate(choose: Choose, tried: list[str]) -> None:
    """And the record says so."""
    found, why, _ = choose("auto", 600.0, left=5.0)
    assert (found.compiled, found.basis, tried) == (True, "estimated", [])
    assert "estimated" in why


def test_a_budget_shorter_than_its_compiling_asks_no_compiler(choose: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps do not wait for a first kernel."""
    monkeypatch.setattr(compiling, "compile_fault", pytest.fail)
    found, why, notices = choose("auto", 10.0, left=2.0)
    assert (found, notices) == (EAGER, ())
    assert why.startswith("eager: reads most in 10 s") and "estimated" in why


def test_off_is_eager_whatever_it_costs(choose: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked."""
    monkeypatch.setattr(compiling, "compile_fault", pytest.fail)
    assert choose("off", 86_400.0)[0] == EAGER


def test_on_is_compiled_however_short_the_budget(choose: Choose, tried: list[str]) -> None:
    """What a person fixed stands."""
    assert choose("on", 1.0, left=0.0)[0].compiled


def test_without_a_compiler_a_run_is_eager_with_a_notice(choose: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named; a recipe that insists on compiling is refused with exit code 5."""
    monkeypatch.setattr(compiling, "compile_fault", lambda device: "no C++ compiler was found")
    found, why, notices = choose("auto", 600.0)
    assert found == EAGER and "C++ compiler" in why
    assert len(notices) == 1 and "C++ compiler" in notices[0]
    with pytest.raises(EnvironmentFault, match=r"train\.compile is on") as caught:
        choose("on", 600.0)
    assert caught.value.exit_code == 5


def test_a_trial_that_runs_out_of_memory_leaves_the_estimate(
    choose: Choose, tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another fault of the compiler is shown."""
    monkeypatch.undo()
    monkeypatch.setattr(compiling, "compile_fault", lambda device: "")

    def fail(*_: Any) -> Mode:
        raise MemoryError

    monkeypatch.setattr(compiling, "_few_blocks", fail)
    assert choose("auto", 600.0)[0].basis == "estimated"


def test_what_cannot_be_compiled_runs_eager_with_a_notice(choose: Choose, breaks: list[Path]) -> None:
    """A part that breaks the graph, a kernel that cannot be built: the first line of the reason, and no folder is left."""
    found, why, notices = choose("auto", 600.0)
    assert found == EAGER and "graph break in a part" in why
    assert len(notices) == 1 and "graph break in a part" in notices[0] and "hundred" not in notices[0]
    assert len(breaks) == 1 and not breaks[0].exists()


def test_on_refuses_what_cannot_be_compiled(choose: Choose, breaks: list[Path]) -> None:
    """Exit code 5 with the reason, and no folder is left."""
    with pytest.raises(EnvironmentFault, match="graph break in a part") as caught:
        choose("on", 600.0)
    assert caught.value.exit_code == 5
    assert len(breaks) == 1 and not breaks[0].exists()


def test_a_real_graph_break_is_named(
    make_recipe: MakeRecipe, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the compiler itself, which gives up before it builds anything."""
    monkeypatch.setattr(compiling, "gradient_seconds", lambda *_: 1.0)
    real = compiling.make_learner

    def broken(recipe: Recipe, *, vocab: int) -> Any:
        learner = real(recipe, vocab=vocab)
        learner.model.encoder.register_forward_pre_hook(lambda *_: torch._dynamo.graph_break())
        return learner

    monkeypatch.setattr(compiling, "make_learner", broken)
    with pytest.raises(compiling._CannotCompileError, match="graph_break"), compiling._uncharged():
        compiling._few_blocks(make_recipe("10m"), "default", 4, torch.float32, CPU, vocabulary)


def test_a_dearer_mode_that_fails_leaves_the_default_one(
    choose: Choose, tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reason is told beside the figures."""

    def few_blocks(recipe: Recipe, name: str, *_: Any) -> Mode:
        if name != "default":
            raise compiling._CannotCompileError("no such kernel")
        return mode(2.0, 20.0)

    monkeypatch.setattr(compiling, "_few_blocks", few_blocks)
    monkeypatch.setattr(compiling, "release", lambda device: None)
    found, why, notices = choose("auto", 600.0, device=torch.device("cuda"))
    assert (found.name, found.compiled, notices) == ("default", True, ())
    assert why.endswith("; max-autotune-no-cudagraphs: no such kernel")


def test_a_fault_of_the_eager_model_is_not_called_one_of_compiling(
    choose: Choose, breaks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows itself as it is."""

    def fail(*_: Any) -> float:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(compiling, "gradient_seconds", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        choose("auto", 600.0)


def test_starting_the_compiler_counts_nothing_and_keeps_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first kernel is no part of what the summary tells of the run."""
    counters = torch._dynamo.utils.counters["inductor"]
    before, folders = dict(counters), []

    def build(device: torch.device) -> str:
        counters["fxgraph_cache_miss"] += 1
        folders.append(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]))
        return "a reason"

    monkeypatch.setattr(compiling, "compile_fault", build)
    assert compiling.start_compiler(CPU) == "a reason"
    assert dict(counters) == before and not folders[0].exists()


def test_the_trial_times_at_most_four_blocks(
    make_recipe: MakeRecipe, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling is replaced by nothing: the gain is about one, and the learner had four of the sixteen blocks."""
    depths: list[int] = []
    real = compiling.make_learner

    def watched(recipe: Recipe, *, vocab: int) -> Any:
        assert isinstance(recipe.model.shape, Plain)
        depths.append(recipe.model.shape.layers)
        return real(recipe, vocab=vocab)

    monkeypatch.setattr(compiling, "make_learner", watched)
    monkeypatch.setattr(torch, "compile", lambda call, **options: call)
    recipe = make_recipe("10m", model__shape__layers=16)
    found = compiling._few_blocks(recipe, "default", 4, torch.float32, CPU, vocabulary)
    assert depths == [4]
    assert 0.1 < found.gain < 10 and found.basis == "measured"


def test_the_trials_learner_is_of_the_recipes_kinds(
    make_recipe: MakeRecipe, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four blocks of a hybrid with more above, and of a period of networks that is longer than the trial."""
    tried: list[Any] = []
    monkeypatch.setattr(compiling, "gradient_seconds", lambda *_: 1.0)
    monkeypatch.setattr(torch, "compile", lambda call, **options: call)
    real = compiling.make_learner
    monkeypatch.setattr(
        compiling, "make_learner", lambda recipe, vocab: tried.append(recipe) or real(recipe, vocab=vocab)
    )
    changes = {"model__feedforward_every": 6, "model__position": "learned", "objective": "mlm"}
    recipe = make_recipe("10m", model__shape__layers=12, **changes)
    model = dataclasses.replace(recipe.model, mixer=Hybrid(last=4, upper=recipe.model.mixer))
    compiling._few_blocks(dataclasses.replace(recipe, model=model), "default", 4, torch.float32, CPU, vocabulary)
    few = tried[0].model
    assert (few.shape.depth, few.mixer, few.feedforward_every) == (4, Hybrid(last=1, upper=recipe.model.mixer), 4)


def test_further_blocks_and_mask_rates_cost_further_seconds(make_recipe: MakeRecipe) -> None:
    """One block and one rate cost what was measured; eleven blocks double it by the share of a tenth; and so do the causal
    steps of a run that goes on with masks, since the blocks look another way in them."""
    masks = {"objective": "mlm", "mask_rate": {"part": "constant"}}
    one = make_recipe("10m", model__shape__layers=1, **masks)
    assert compiling._whole(one, 10.0) == pytest.approx(10.0)
    eleven = make_recipe("10m", model__shape__layers=11, **masks)
    assert compiling._whole(eleven, 10.0) == pytest.approx(20.0)
    falling = make_recipe("10m", model__shape__layers=1, objective="mlm", train__mask_levels=2)
    assert compiling._whole(falling, 10.0) > 10.0
    turning = make_recipe("10m", model__shape__layers=1, mask_rate={"part": "constant"})
    assert compiling._whole(turning, 10.0) == pytest.approx(20.0)


def test_nothing_of_a_trial_is_left_behind() -> None:
    """The counts of compiled kernels, which the summary tells, are as before, even if the compiler began to count anew;
    so is the cache's place."""
    counters = torch._dynamo.utils.counters
    counters["inductor"]["fxgraph_cache_miss"] += 3
    before, place = dict(counters["inductor"]), os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with compiling._uncharged():
        counters["inductor"] = collections.Counter(fxgraph_cache_miss=5)
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] != place
    assert dict(counters["inductor"]) == before
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == place
    counters["inductor"]["fxgraph_cache_miss"] -= 3
