"""What a fit says of memory, and what it leaves in it: nothing of the trial is replaced."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gpuday.train.fit as fitting
from gpuday.objectives import Learner, Vocabulary
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner
from gpuday.train.compiling import EAGER, Mode
from gpuday.train.fit import Fit, fit
from gpuday.train.trial import random_inputs

CPU = torch.device("cpu")
MakeRecipe = Callable[..., Recipe]
FitTo = Callable[[Recipe, Callable[[], Learner]], Fit]


@pytest.fixture
def fit_to(tmp_path: Path, vocabulary: Vocabulary) -> FitTo:
    """Fit a recipe whose learner is made so, with a cache of this test's own."""

    def go(recipe: Recipe, make: Callable[[], Learner]) -> Fit:
        places = {"pinned": tmp_path / "fit.json", "cache": tmp_path / "cache"}
        return fit(recipe, device=CPU, make_learner=make, vocabulary=vocabulary, heldout_rows=100, **places)

    return go


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_memory_is_that_of_the_micro_batch(fit_to: FitTo, make_recipe: MakeRecipe, vocabulary: Vocabulary) -> None:
    """More than what autograd says it keeps for the gradients, and less than five times that: backward adds its own."""
    recipe = make_recipe("10m", train__microbatch=512, batch__rows=512)
    learner = make_learner(recipe, vocab=vocabulary.size)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = learner(random_inputs(recipe, 512, vocabulary, CPU), "masked")
    del loss
    found = fit_to(recipe, lambda: make_learner(recipe, vocab=vocabulary.size))
    assert sum(kept.values()) < found.memory_bytes < 5 * sum(kept.values())


def test_the_trial_is_gone_before_compiling_is_tried(
    fit_to: FitTo, make_recipe: MakeRecipe, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights, gradients and optimizer state would lie beside those of the next learner."""
    recipe, made, left = make_recipe("10m"), [], []

    def make() -> Learner:
        learner = make_learner(recipe, vocab=vocabulary.size)
        made.append(weakref.ref(learner))
        return learner

    def choose_mode(*_: Any, **__: Any) -> tuple[Mode, str, tuple[str, ...]]:
        left.append(made[0]())
        return EAGER, "by a test", ()

    monkeypatch.setattr(fitting, "choose_mode", choose_mode)
    fit_to(recipe, make)
    assert left == [None]
