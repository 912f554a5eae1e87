"""Timed trials of a learner on its device: micro-batches with their memory, and the optimizer.

Rows are random and the weights are thrown away afterwards: only seconds and bytes are kept.
"""

import contextlib
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor

from gpuday.objectives import Learner, Vocabulary
from gpuday.recipe import Recipe
from gpuday.train.allocator import give_back_freed_memory
from gpuday.train.batches import Inputs
from gpuday.train.device import free_memory, local_ranks, synchronise
from gpuday.train.scheduled import kinds_over
from gpuday.train.weights import Weights

MOST_SECONDS = 60.0  # of a fit
MOST_SHARE = 0.25  # of the budget, so that a short run is not preceded by a longer wait
HEADROOM = 0.1  # of the free memory is left free: fragments, the loader, what other programs take later
IN_A_ROW = {"cpu": 1, "cuda": 4}  # micro-batches between two waits for the device; training waits once a step
REPEATS = 3  # the first warms up
MOST_UPDATE_SECONDS = 5.0  # for timing updates


@dataclass(frozen=True, kw_only=True)
class Point:
    """What a micro-batch of `rows` rows costs: seconds of forward and backward, bytes above what stays, at the peak."""

    rows: int
    seconds: float
    bytes: int
    spent: float
    """Seconds that measuring it took."""


@dataclass(frozen=True, kw_only=True)
class OptimizerCost:
    """What an optimizer step takes beside its gradients, in the mean over a period of the optimizer."""

    seconds: float
    """Averaging included."""
    more_gradients: float
    """Times that gradients are asked for anew."""
    state_bytes: int = 0
    """The optimizer's state, as a checkpoint holds it."""


class _Update(NamedTuple):
    """Seconds of an update without the gradients that it asked for, and how many these were."""

    seconds: float
    asked: int


class Trial:
    """A learner with the gradients, optimizer state and average that training holds, so that bytes are those of training."""

    def __init__(
        self, recipe: Recipe, learner: Learner, *, dtype: torch.dtype, device: torch.device, vocabulary: Vocabulary
    ) -> None:
        self._recipe, self._learner, self._device, self._vocabulary = recipe, learner, device, vocabulary
        self._weights = Weights(learner, recipe.optimizer, recipe.average, dtype=dtype, seed=recipe.seed)
        self._within = 0  # bytes that the optimizer holds while it looks at another point
        self._settle()

    def optimizer(self) -> OptimizerCost:
        """Time a whole period of updates after a first one, with the gradients that a micro-batch left. What they allocated
        stays, and points are from here on measured beside what is held while gradients are asked for anew.

        Where there is no time for all of them, the first one stands for the dear one that was not met.
        """
        period = self._recipe.optimizer.period
        limit = min(MOST_UPDATE_SECONDS, MOST_SHARE / 5 * (self._recipe.budget.seconds or math.inf))
        began, first = time.perf_counter(), self._update()
        updates: list[_Update] = []
        while len(updates) < period and (not updates or time.perf_counter() - began < limit):
            updates.append(self._update())
        seconds, asked = (statistics.fmean(each) for each in zip(*updates, strict=True))
        if len(updates) < period:
            seconds += max(0.0, first.seconds - seconds) / period
            asked += max(0.0, first.asked - asked) / period
        self._settle()
        state = sum(tensor.nbytes for tensor in self._weights.stepper.state().values())
        return OptimizerCost(seconds=seconds, more_gradients=asked, state_bytes=state)

    def _update(self) -> "_Update":
        """One update. Gradients that it asks for are those of a row, whose time is not the optimizer's."""
        asked: list[float] = []
        kind, held = largest_kind(self._recipe), _held(self._device)
        inputs = random_inputs(self._recipe, 1, self._vocabulary, self._device)

        def again(**_: object) -> None:
            synchronise(self._device)
            start = time.perf_counter()
            self._learner.zero_grad(set_to_none=True)
            self._learner(inputs, kind).backward()
            self._within = max(self._within, _held(self._device) - held)
            synchronise(self._device)
            asked.append(time.perf_counter() - start)

        synchronise(self._device)
        start = time.perf_counter()
        self._weights.stepper.step(1.0, again)
        self._weights.updated(1.0)
        synchronise(self._device)
        return _Update(time.perf_counter() - start - sum(asked), len(asked))

    def point(self, rows: int) -> Point:
        """Forward and backward of `rows` random rows, gradients added to those that are there."""
        began = time.perf_counter()
        inputs = random_inputs(self._recipe, rows, self._vocabulary, self._device)
        _reset_peak(self._device)
        beside = torch.ones(self._within, dtype=torch.uint8, device=self._device)  # written, so that it is really held
        seconds = gradient_seconds(partial(self._learner, inputs, largest_kind(self._recipe)), self._device)
        del beside
        needed = max(0, _peak(self._device) - self._stays)
        return Point(rows=rows, seconds=seconds, bytes=needed, spent=time.perf_counter() - began)

    def seconds(self, rows: int) -> dict[str, float]:
        """Seconds of forward and backward of `rows` random rows, by the kinds of steps that the run has."""
        found = {}
        for kind in dict.fromkeys(kind for kinds in kinds_over(self._recipe.objective) for kind in kinds):
            inputs = random_inputs(self._recipe, rows, self._vocabulary, self._device, kind=kind)
            found[kind] = gradient_seconds(partial(self._learner, inputs, kind), self._device)
        return found

    def _settle(self) -> None:
        """Take what is held now as what stays, and plan with what is free. Ranks share a CPU's memory, and each of the
        others will hold as much as this one."""
        self._stays = _held(self._device)
        others = local_ranks() - 1 if self._device.type == "cpu" else 0
        free = (1 - HEADROOM) * free_memory(self._device) - others * self._stays
        self.room = max(0, int(free / (1 + others)))


def random_inputs(
    recipe: Recipe, rows: int, vocabulary: Vocabulary, device: torch.device, *, kind: str | None = None
) -> Inputs:
    """A learner's inputs for `rows` rows of random tokens, at the peak of the mask rate; None is the largest kind."""
    ids = np.random.default_rng(0).integers(0, vocabulary.size, (rows, recipe.data.length))
    keys = np.arange(rows, dtype=np.uint64)
    arrays = recipe.objective.inputs(
        ids, keys, seed=0, epoch=0, multiplier=1.0, kind=kind or largest_kind(recipe), vocabulary=vocabulary
    )
    return {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}


def largest_kind(recipe: Recipe) -> str:
    """The kind of step with most predicted positions, which takes most memory; the first of those that have as many."""
    objective = recipe.objective
    return max(objective.kinds, key=lambda kind: objective.predicted(recipe.data.length, 1.0, kind))


def gradient_seconds(loss: Callable[[], Tensor], device: torch.device) -> float:
    """Seconds of one forward, which `loss` makes, and its backward: the best of two after one to warm up."""
    count = IN_A_ROW[device.type]
    seconds = []
    for _ in range(REPEATS):
        synchronise(device)
        start = time.perf_counter()
        for _ in range(count):
            loss().backward()
        synchronise(device)
        seconds.append((time.perf_counter() - start) / count)
    return min(seconds[1:])


class Allowance:
    """The seconds that a fit may take from its beginning on: a minute, and a quarter of the budget once that is known."""

    def __init__(self) -> None:
        self._began, self._seconds = time.perf_counter(), MOST_SECONDS

    def limit(self, budget_seconds: float) -> None:
        self._seconds = min(MOST_SECONDS, MOST_SHARE * budget_seconds)

    def used(self) -> float:
        return time.perf_counter() - self._began

    def left(self, share: float = 1.0) -> float:
        """Seconds until that share of the allowance is used; below zero when it is."""
        return share * self._seconds - self.used()


def _held(device: torch.device) -> int:
    """Bytes that are in use now: by tensors on a GPU, by the process on a CPU, without what it freed and kept."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    give_back_freed_memory()
    return psutil.Process().memory_info().rss


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        give_back_freed_memory()  # kept pages count as used, whoever needed them
        # Linux forgets a process's peak when it is asked to. Elsewhere the peak is that of the whole process so far,
        # and sizes that stay below it seem to need nothing.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines()) if status.is_file() else {}
    if "VmHWM" in lines:
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
