"""Fits a recipe to the device before the clock starts: micro-batch, dtype, compile or eager, batch, held-out rows.

Free, as a researcher's own tuning of the card would be, and bounded by a minute. The answer is pinned in the run
directory for resume and replay, and cached for the other seeds of the same recipe, so that every arm of a comparison
trains alike.
"""

import dataclasses
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gpuday import __version__
from gpuday.core import config
from gpuday.core.errors import EnvironmentFault, FitError, UsageError
from gpuday.core.rundir import read_json, write_json
from gpuday.models.flops import training_per_token
from gpuday.models.heads import MaskedLM
from gpuday.objectives import Vocabulary
from gpuday.recipe import Recipe
from gpuday.train.device import compile_fault, describe, has_bf16, measure_bound, synchronise

TRIAL_TOKENS = {"cpu": (2048, 4096, 8192), "cuda": (8192, 16384, 32768, 65536, 131072)}
MOST_SECONDS = 60.0
# What compiling gains over eager and costs, to decide whether it pays before it is tried. Measured on two CPU cores at
# 4x256 (11k to 25k tokens/s, 13 to 30 s cold); the cost grows with depth, since layers are unrolled.
COMPILE_GAIN = 2.0
COMPILE_SECONDS = {"base": 10.0, "layer": 5.0}
COMPILE_PAYS_FROM = 3.0  # budgets of at least this many times the compile's seconds
VALIDATION_SHARE = 0.02  # of the budget, at most, for one full look at the held-out text
LEAST_VALIDATION_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What was chosen for this device, and from which measurements."""

    device: str
    """The device, in words."""
    dtype: str
    """Compute dtype: bfloat16 or float32."""
    microbatch: int
    """Rows the device gets at a time."""
    compiled: bool
    """Whether the learner is compiled."""
    rows: int
    """Rows in a full optimizer step."""
    expected_tokens: float
    """Tokens the budget is expected to read."""
    heldout_rows: int
    """Held-out rows of a full validation."""
    tokens_per_second: float
    """Eager forward and backward at that micro-batch, as measured."""
    bound_flops_per_second: float
    """This machine's own matrix product at the model's width, as measured."""
    notices: tuple[str, ...] = ()
    """What a person should know of the choice."""


def fit(
    recipe: Recipe,
    *,
    device: torch.device,
    make_learner: Callable[[], torch.nn.Module],
    vocabulary: Vocabulary,
    heldout_rows: int,
    pinned: Path,
    cache: Path,
) -> Fit:
    """The fit pinned at `pinned`, else the one in `cache` for this recipe and device, else a new measurement."""
    if pinned.exists():
        found = config.from_dict(Fit, read_json(pinned), where=str(pinned))
        if found.device != describe(device):
            raise UsageError(
                f"the run began on {found.device}; this is {describe(device)}",
                where=str(pinned),
                fix="resume it there, or give another --out: one run is one device",
            )
        return found
    shared = cache / f"{_key(recipe, device, vocabulary, heldout_rows)}.json"
    if shared.exists():
        found = config.from_dict(Fit, read_json(shared), where=str(shared))
    else:
        found = _measure(recipe, device, make_learner, vocabulary, heldout_rows)
        write_json(shared, config.to_dict(found))
    write_json(pinned, config.to_dict(found))
    return found


def _key(recipe: Recipe, device: torch.device, vocabulary: Vocabulary, heldout_rows: int) -> str:
    """What a fit depends on; the seed does not count, so that every seed of a recipe trains alike."""
    return config.fingerprint(
        {
            "recipe": config.to_dict(dataclasses.replace(recipe, seed=0)),
            "device": describe(device),
            "torch": torch.__version__,
            "gpuday": __version__,
            "compiler": any(shutil.which(name) for name in ("g++", "clang++", "c++")),
            "vocabulary": vocabulary.size,
            "heldout_rows": heldout_rows,
        }
    )


def _measure(
    recipe: Recipe,
    device: torch.device,
    make_learner: Callable[[], torch.nn.Module],
    vocabulary: Vocabulary,
    available_heldout: int,
) -> Fit:
    length, train = recipe.data.length, recipe.train
    dtype = _dtype(train.dtype, device)
    learner = make_learner().to(device).train(train.dropout)
    model: MaskedLM = learner.model  # type: ignore[assignment]
    model.encoder.dtype = getattr(torch, dtype)
    microbatch, speed = _best_microbatch(recipe, learner, device, vocabulary)
    notices: list[str] = []
    compiled = _compile(recipe, device, speed, notices)
    speed_expected = speed * (COMPILE_GAIN if compiled else 1.0)
    share = recipe.objective.predicted(length, 1.0) / length
    per_token = training_per_token(recipe.model, vocab=vocabulary.size, length=length, predicted_share=share)
    amount = recipe.budget.amount
    expected = {
        "seconds": amount * speed_expected * 0.9,  # a tenth goes to compiling, validation and saving
        "tokens": amount,
        "flops": amount / per_token,
    }.get(recipe.budget.unit)
    if expected is None:  # steps: the batch decides the tokens, so the rule cannot ask for them
        rows = recipe.batch.rows or microbatch
        expected = amount * rows * length
    else:
        rows = recipe.batch.full_rows(expected_tokens=expected, length=length)
    if not train.microbatch:  # as even as they come: a padded micro-batch costs as much as a full one
        microbatch = math.ceil(rows / math.ceil(rows / microbatch))
    seconds = recipe.budget.seconds or expected / speed_expected
    return Fit(
        device=describe(device),
        dtype=dtype,
        microbatch=min(microbatch, rows),
        compiled=compiled,
        rows=rows,
        expected_tokens=expected,
        heldout_rows=_heldout_rows(seconds, speed / length * 3, available_heldout),
        tokens_per_second=speed,
        bound_flops_per_second=measure_bound(device, getattr(torch, dtype), recipe.model.width),
        notices=tuple(notices),
    )


def _best_microbatch(
    recipe: Recipe, learner: torch.nn.Module, device: torch.device, vocabulary: Vocabulary
) -> tuple[int, float]:
    """The smallest micro-batch within 5% of the fastest, and its tokens/s; sizes that do not fit end the search."""
    length = recipe.data.length
    fixed = recipe.train.microbatch
    sizes = [fixed] if fixed else sorted({max(1, tokens // length) for tokens in TRIAL_TOKENS[device.type]})
    speeds: dict[int, float] = {}
    began = time.perf_counter()
    for rows in sizes:
        try:
            speeds[rows] = rows * length / _step_seconds(recipe, learner, rows, device, vocabulary)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if time.perf_counter() - began > MOST_SECONDS / 4:  # the next size takes twice as long, four times over
            break
    if not speeds:
        raise FitError(
            f"{recipe.size} does not fit {describe(device)} even with {sizes[0]} rows at a time",
            where="train.microbatch",
            fix="choose a smaller --size, or set train.microbatch to fewer rows",
        )
    best = max(speeds.values())
    return next((rows, speed) for rows, speed in speeds.items() if speed >= 0.95 * best)


def _step_seconds(
    recipe: Recipe, learner: torch.nn.Module, rows: int, device: torch.device, vocabulary: Vocabulary
) -> float:
    """Seconds of forward and backward on random rows [rows, L]: the better of two after one to warm up."""
    ids = np.random.default_rng(0).integers(0, vocabulary.size, (rows, recipe.data.length))
    arrays = recipe.objective.inputs(
        ids, np.arange(rows, dtype=np.uint64), seed=0, epoch=0, multiplier=1.0, vocabulary=vocabulary
    )
    inputs = {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}
    seconds = []
    for _ in range(3):
        synchronise(device)
        start = time.perf_counter()
        learner(inputs).backward()
        learner.zero_grad(set_to_none=True)
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _dtype(wanted: str, device: torch.device) -> str:
    return ("bfloat16" if has_bf16(device) else "float32") if wanted == "auto" else wanted


def _compile(recipe: Recipe, device: torch.device, speed: float, notices: list[str]) -> bool:
    wanted = recipe.train.compile
    if wanted == "off":
        return False
    if fault := compile_fault(device):
        if wanted == "on":
            raise EnvironmentFault(
                f"train.compile is on, and {fault}", fix='install what is missing, or set train.compile="auto"'
            )
        notices.append(f"training runs eager, at about half the speed: {fault}")
        return False
    cost = COMPILE_SECONDS["base"] + COMPILE_SECONDS["layer"] * recipe.model.shape.depth
    seconds = recipe.budget.seconds
    if seconds is None:
        per_unit = {"tokens": 1.0, "steps": (recipe.batch.rows or 64) * recipe.data.length}.get(recipe.budget.unit)
        seconds = cost * COMPILE_PAYS_FROM if per_unit is None else recipe.budget.amount * per_unit / speed
    if wanted == "auto" and seconds < COMPILE_PAYS_FROM * cost:
        notices.append(f"training runs eager: compiling would take about {cost:.0f} s of a {seconds:.0f} s budget")
        return False
    return True


def _heldout_rows(budget_seconds: float, rows_per_second: float, available: int) -> int:
    """A power of two rows, all if there is time: equal for arms whose speeds differ a little."""
    rows = budget_seconds * VALIDATION_SHARE * rows_per_second
    power = 1 << max(0, int(rows).bit_length() - 1)
    return available if rows >= available else min(available, max(LEAST_VALIDATION_ROWS, power))
