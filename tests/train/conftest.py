"""A tiny recipe on made-up text, prepared once a session, and runs of it that take a second or less."""

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gpuday import presets
from gpuday.core import config
from gpuday.core.clock import Budget, Clock
from gpuday.core.rundir import RunDir
from gpuday.data.prepare import PreparedData, prepare
from gpuday.objectives import Learner, Vocabulary
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner, vocabulary_of
from gpuday.train.batches import Batches
from gpuday.train.fit import Fit
from gpuday.train.loop import train
from gpuday.train.progress import Progress
from quick import disk_not_awaited, kernels_tried_once

__all__ = ["disk_not_awaited", "kernels_tried_once"]

CHANGES: dict[str, Any] = {
    "model.mixer.head_width": 16,
    "model.width": 32,
    "model.shape.layers": 2,
    "data.corpus": ["synthetic:20000"],
    "data.vocab": 512,
    "data.length": 32,
    "batch.rows": 8,
    "batch.ramp": {"part": "constant"},
    "train.microbatch": 4,
    "train.compile": "off",
    "train.dtype": "float32",
}

MakeRecipe = Callable[..., Recipe]
MakeBatches = Callable[..., Batches]
TrainRun = Callable[..., tuple[Progress, Clock]]


@pytest.fixture(scope="session")
def make_recipe() -> MakeRecipe:
    """The tiny recipe for a budget, with values at dotted paths replaced."""

    def make(budget: str = "6steps", **changes: Any) -> Recipe:
        recipe = presets.find("modern")("nano", Budget.parse(budget))
        for key, value in {**CHANGES, **{k.replace("__", "."): v for k, v in changes.items()}}.items():
            recipe = config.replace_at(recipe, key, value)
        return recipe

    return make


@pytest.fixture(scope="session")
def tiny(make_recipe: MakeRecipe) -> Recipe:
    """Six steps of eight rows of 32 tokens."""
    return make_recipe()


@pytest.fixture(scope="session")
def data(tiny: Recipe, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The tiny recipe's text, packed."""
    return prepare(tiny.data, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def vocabulary(data: PreparedData) -> Vocabulary:
    """What an objective knows of the tiny tokenizer."""
    return vocabulary_of(data.tokenizer)


@pytest.fixture
def learner(tiny: Recipe, vocabulary: Vocabulary) -> Learner:
    """The tiny recipe's learner with its initial weights."""
    return make_learner(tiny, vocab=vocabulary.size)


@pytest.fixture
def make_batches(tiny: Recipe, data: PreparedData, vocabulary: Vocabulary) -> Iterator[MakeBatches]:
    """Loaders of the tiny text; closed afterwards."""
    made: list[Batches] = []

    def make(**changes: Any) -> Batches:
        given = {"store": data.train, "order": tiny.data.order, "objective": tiny.objective, **changes}
        first = [given.pop(name) for name in ("store", "order", "objective")]
        options = {"seed": 0, "expected_rows": 1000, "device": torch.device("cpu"), **given}
        made.append(Batches(*first, vocabulary, **options))
        return made[-1]

    yield make
    for batches in made:
        batches.close()


@pytest.fixture(scope="session")
def pinned(tiny: Recipe, data: PreparedData) -> Fit:
    """A fit as if it had been measured: four rows at a time, eager, fp32, a look at 64 held-out rows."""
    return Fit(
        device="a test",
        dtype="float32",
        microbatch=4,
        compiled=False,
        rows=8,
        expected_tokens=6 * 8 * 32,
        heldout_rows=min(64, len(data.heldout)),
        tokens_per_second=1e4,
        bound_flops_per_second=1e10,
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """An empty run directory."""
    return RunDir(tmp_path / "run")


@pytest.fixture
def train_run(tiny: Recipe, data: PreparedData, pinned: Fit, run: RunDir) -> TrainRun:
    """Train the tiny recipe in `run`, or what is given instead."""

    def go(recipe: Recipe = tiny, at: RunDir = run, *, fit: dict[str, Any] | None = None, **options: Any) -> Any:
        given = {"device": torch.device("cpu"), "tell": lambda event, /, **values: None, **options}
        return train(recipe, data, at, dataclasses.replace(pinned, **(fit or {})), **given)

    return go


@pytest.fixture(scope="session")
def finished_once(tiny: Recipe, data: PreparedData, pinned: Fit, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The finished run of the tiny recipe, to be copied."""
    once = RunDir(tmp_path_factory.mktemp("trained") / "run")
    train(tiny, data, once, pinned, device=torch.device("cpu"), tell=lambda event, /, **values: None)
    return once


@pytest.fixture
def finished(finished_once: RunDir, run: RunDir) -> RunDir:
    """`run`, as `train_run()` leaves it."""
    shutil.copytree(finished_once.root, run.root, dirs_exist_ok=True)
    return run


@pytest.fixture
def send() -> Callable[[signal.Signals], Callable[[], None]]:
    """`send(number)` is a call that sends this process a signal."""
    return lambda number: lambda: os.kill(os.getpid(), number)


@pytest.fixture
def at_step() -> Callable[[int, Callable[[], None]], Callable[..., None]]:
    """`at_step(step, act)` is a screen that acts when a step is told."""

    def make(step: int, act: Callable[[], None]) -> Callable[..., None]:
        def tell(event: str, /, **values: Any) -> None:
            if event == "step" and values["step"] == step:
                act()

        return tell

    return make
