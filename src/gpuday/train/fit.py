"""Fits a recipe to the device before the clock starts: micro-batch, threads, dtype, compile or eager, batch, held-out rows.

Free, as a researcher's own tuning of the card would be, and bounded: by a minute, and by a quarter of the budget. The
micro-batch and the threads change nothing but speed, since the stream of rows is the same for each. The answer is pinned
in the run directory for resume and replay, and cached for the other seeds of the same recipe, so that every arm of a
comparison trains alike.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from gpuday import __version__
from gpuday.core import config
from gpuday.core.errors import DataError, EnvironmentFault, FitError, UsageError
from gpuday.core.rundir import clear_unfinished, read_json, write_json
from gpuday.objectives import Learner, Vocabulary
from gpuday.recipe import Recipe
from gpuday.train.choices import (
    choose_dtype,
    choose_threads,
    first_that_fits,
    predicted_bytes,
    search,
    sizes_to_try,
    smallest_near_best,
    thread_candidates,
)
from gpuday.train.compiling import Basis, choose_mode, start_compiler
from gpuday.train.device import (
    compilers,
    configure,
    cores,
    describe,
    is_out_of_memory,
    local_ranks,
    measure_bound,
    release,
)
from gpuday.train.expectation import Expectation, mean_cost
from gpuday.train.trial import Allowance, Trial, largest_kind

SEARCH_SHARE = 0.5  # of the seconds of a fit, for threads and micro-batches; the rest is for a trial of compiling
VALIDATION_SHARE = 0.02  # of the budget, at most, for one full look at the held-out text
LEAST_VALIDATION_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Reasons:
    """One sentence for each choice."""

    microbatch: str = ""
    memory: str = ""
    threads: str = ""
    dtype: str = ""
    compile: str = ""
    batch: str = ""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What was chosen for this device, and from which measurements."""

    device: str
    """The hardware, in words."""
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
    """Expected of full steps of all ranks, optimizer included, compiling left out."""
    bound_flops_per_second: float
    """This machine's own matrix product at the model's width, as measured."""
    threads: int = 0
    """CPU threads that all ranks of a machine compute with together; 0 leaves each process's own number."""
    compile_mode: str = "default"
    """torch.compile's mode, where the learner is compiled."""
    compile_gain: float = 1.0
    """Speed of forward and backward in the mode that was chosen, over eager's."""
    compile_seconds: float = 0.0
    """What compiling is expected to take of the budget."""
    compile_basis: Basis = "none"
    """Whether gain and seconds were measured here or estimated from another machine's; none where nothing is compiled."""
    optimizer_seconds: float = 0.0
    """An optimizer step without its gradients, as measured: the mean over one of the optimizer's periods."""
    state_bytes: int = 0
    """The optimizer's state, as a checkpoint holds it; 0 in a fit of an earlier version."""
    memory_bytes: int = 0
    """Peak of a micro-batch above weights, gradients and optimizer state, from what was measured eager; with what the
    optimizer holds while it looks at another point."""
    fit_seconds: float = 0.0
    """What fitting took."""
    reasons: Reasons = Reasons()
    """Why each was chosen."""
    notices: tuple[str, ...] = ()
    """What a person should know of the choice."""


def fit(
    recipe: Recipe,
    *,
    device: torch.device,
    make_learner: Callable[[], Learner],
    vocabulary: Vocabulary,
    heldout_rows: int,
    pinned: Path,
    cache: Path,
    ranks: int = 1,
) -> Fit:
    """The fit pinned at `pinned`, else the one in `cache` for this recipe and device, else a new measurement.

    Raises UsageError when the run began on other hardware, or with more threads than there are cores now; FitError
    when not even the smallest micro-batch fits; EnvironmentFault when the run is to be compiled and nothing can be here.
    `ranks` devices like this one train together.
    """
    if pinned.exists():
        found = config.from_dict(Fit, read_json(pinned), where=str(pinned))
        _refuse_another_device(found, device, pinned)
        _start_compiler(found, device, pinned)
        return found
    shared = cache / f"{_key(recipe, device, vocabulary, heldout_rows, ranks)}.json"
    if (cached := _cached(shared)) is not None:
        found = cached
        _start_compiler(found, device, shared)
    else:
        found = _measure(recipe, device, make_learner, vocabulary, heldout_rows, ranks)
        write_json(shared, config.to_dict(found))
        clear_unfinished(cache, shared=True)
    write_json(pinned, config.to_dict(found))
    return found


def _cached(shared: Path) -> Fit | None:
    """The fit that another run left, or None where there is none or it is damaged: it is only a cache."""
    try:
        return config.from_dict(Fit, read_json(shared), where=str(shared))
    except (DataError, UsageError):
        return None


def _refuse_another_device(found: Fit, device: torch.device, pinned: Path) -> None:
    began, here = found.device, describe(device)
    if began == here and found.threads > cores():
        began, here = f"{began} with {found.threads} threads", f"{cores()} cores of it"
    if began != here:
        raise UsageError(
            f"the run began on {began}; this is {here}",
            where=str(pinned),
            fix="resume it there, or give another --out: one run is one device",
        )


def _start_compiler(found: Fit, device: torch.device, where: Path) -> None:
    """What a measured fit does to the compiler before the clock starts, done for one that was read, too."""
    if found.compiled and (fault := start_compiler(device)):
        raise EnvironmentFault(
            f"the fit says to compile, and {fault}",
            where=str(where),
            fix="install what is missing, or begin another run with --set train.compile=off",
        )


def _key(recipe: Recipe, device: torch.device, vocabulary: Vocabulary, heldout_rows: int, ranks: int) -> str:
    """What a fit depends on; the seed does not count, so that every seed of a recipe trains alike."""
    return config.fingerprint(
        {
            "recipe": config.to_dict(dataclasses.replace(recipe, seed=0)),
            "device": describe(device),
            "threads": thread_candidates(device),
            "local_ranks": local_ranks(),
            "torch": torch.__version__,
            "gpuday": __version__,
            "compiler": bool(compilers()),
            "vocabulary": vocabulary.size,
            "heldout_rows": heldout_rows,
            "ranks": ranks,
        }
    )


def _measure(
    recipe: Recipe,
    device: torch.device,
    make_learner: Callable[[], Learner],
    vocabulary: Vocabulary,
    available_heldout: int,
    ranks: int,
) -> Fit:
    allowance, length = Allowance(), recipe.data.length
    candidates = thread_candidates(device)
    configure(device, threads=candidates[0])
    dtype, why_dtype = choose_dtype(recipe.train.dtype, device, recipe.model.width)
    sizes = sizes_to_try(recipe, device)
    with _fits(recipe, device):
        learner = make_learner().to(device).train(recipe.train.dropout)
        for encoder in learner.encoders():
            encoder.dtype = dtype
        trial = Trial(recipe, learner, dtype=dtype, device=device, vocabulary=vocabulary)
        point_at = (
            trial.point if recipe.train.microbatch else partial(first_that_fits, measure=trial.point, device=device)
        )
        first = point_at(sizes[0])
        eager = first.rows * length / first.seconds
        expectation = Expectation(recipe=recipe, vocab=vocabulary.size, ranks=ranks, optimizer=trial.optimizer())
        allowance.limit(expectation.seconds(eager))
        if allowance.left() > 0:  # beside the optimizer's state fewer rows may fit
            first = point_at(first.rows)
        threads, why_threads = choose_threads(
            candidates, trial.point, first.rows, lambda: allowance.left(SEARCH_SHARE / 2)
        )
        # No micro-batch is larger than a step, even if compiling doubles what the budget reads.
        most = _share(expectation.expected(2 * eager, compile_seconds=0.0).rows, ranks)
        larger = [rows for rows in sizes[1:] if rows <= most and first.rows == sizes[0]]
        points, ended = [first], "there was no time to try others"
        if allowance.left() > 0:  # again from the first on, now with the threads that were chosen
            points, ended = search(
                [first.rows, *larger], trial.point, room=trial.room, seconds_left=lambda: allowance.left(SEARCH_SHARE)
            )
        speeds = {point.rows: point.rows * length / point.seconds for point in points}
        best, room = smallest_near_best(speeds), trial.room
        speed = speeds[best]
        if len(recipe.objective.kinds) > 1:  # points are of the largest, whose memory counts, and which is the slowest
            speed = best * length / mean_cost(recipe, trial.seconds(best))
    del trial, learner, point_at
    release(device)
    mode, why_compile, notices = choose_mode(
        recipe,
        rows=best,
        seconds=expectation.seconds(speed),
        seconds_left=allowance.left(),
        dtype=dtype,
        device=device,
        vocabulary=vocabulary,
    )
    expected = expectation.expected(speed * mode.gain, compile_seconds=mode.seconds)
    share = _share(expected.rows, ranks)
    microbatch = min(best, share)
    if not recipe.train.microbatch:  # as even as they come: a padded micro-batch costs as much as a full one
        microbatch = math.ceil(share / math.ceil(share / best))
    needed = predicted_bytes(points, microbatch)
    seconds = recipe.budget.seconds or mode.seconds + expected.tokens / expected.tokens_per_second
    return Fit(
        device=describe(device),
        dtype=str(dtype).removeprefix("torch."),
        microbatch=microbatch,
        compiled=mode.compiled,
        rows=expected.rows,
        expected_tokens=expected.tokens,
        heldout_rows=_heldout_rows(seconds, 3 * speed / length, available_heldout),
        tokens_per_second=expected.tokens_per_second,
        bound_flops_per_second=measure_bound(device, dtype, recipe.model.width),
        threads=threads,
        compile_mode=mode.name,
        compile_gain=mode.gain,
        compile_seconds=mode.seconds,
        compile_basis=mode.basis,
        optimizer_seconds=expectation.optimizer.seconds,
        state_bytes=expectation.optimizer.state_bytes,
        memory_bytes=int(needed),
        fit_seconds=allowance.used(),
        reasons=Reasons(
            microbatch=_why_microbatch(recipe, speeds, microbatch, ended),
            memory=f"{microbatch} rows take {needed / 2**30:.2g} GiB beside weights, gradients and optimizer state, of "
            f"{room / 2**30:.3g} GiB: a tenth of what is free is left free",
            threads=why_threads,
            dtype=why_dtype,
            compile=why_compile,
            batch=_why_batch(recipe, expected.tokens, expected.rows),
        ),
        notices=notices,
    )


def _share(rows: int, ranks: int) -> int:
    """Rows of a full step that one device gets. Smaller steps, as the gradient's noise may want them, have no say: they are
    few or quick, and a micro-batch that suits them would make the full ones slow."""
    return max(1, math.ceil(rows / ranks))


@contextlib.contextmanager
def _fits(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Out of memory inside the block is the recipe's fault, said with what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise FitError(
            f"{recipe.size} does not fit {describe(device)} even with {recipe.train.microbatch or 1} rows at a time",
            where="train.microbatch",
            fix="choose a smaller --size, or set train.microbatch to fewer rows",
        ) from error


def _why_microbatch(recipe: Recipe, speeds: dict[int, float], chosen: int, ended: str) -> str:
    """The sizes that were tried, with their eager tokens/s, and of which kind of step these are if there are several."""
    of = f"in {largest_kind(recipe)} steps " if len(recipe.objective.kinds) > 1 else ""
    tried = of + ", ".join(f"{rows} rows {speed:,.0f}" for rows, speed in speeds.items())
    if chosen < recipe.train.microbatch:
        allowed = f"of the {recipe.train.microbatch} that train.microbatch allows"
        return f"{chosen} rows {allowed}: a device has no more of a step; eager tokens/s: {tried}"
    if recipe.train.microbatch:
        return f"{chosen} rows, as train.microbatch says; eager tokens/s: {tried}"
    rest = f"; {ended}" if ended else ""
    return f"{chosen} rows: the fewest within 5% of the fastest, in even parts of a step; eager tokens/s: {tried}{rest}"


def _why_batch(recipe: Recipe, tokens: float, rows: int) -> str:
    if recipe.batch.rows:
        return f"{rows} rows a step, as batch.rows says"
    if recipe.budget.unit == "steps":
        return f"{rows} rows a step, the least of the recipe's rule: a number of steps says nothing of tokens"
    return f"{rows} rows a step, by the recipe's rule for the {tokens:,.0f} tokens that the budget is expected to read"


def _heldout_rows(budget_seconds: float, rows_per_second: float, available: int) -> int:
    """A power of two rows, all if there is time: equal for arms whose speeds differ a little."""
    rows = budget_seconds * VALIDATION_SHARE * rows_per_second
    power = 1 << max(0, int(rows).bit_length() - 1)
    return available if rows >= available else min(available, max(LEAST_VALIDATION_ROWS, power))
