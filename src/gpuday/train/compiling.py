"""Compile or eager: what compiling a learner of few blocks costs and gains here, and whether the budget repays it.

Compiling is charged to the clock. A trial in the compiler's own cache would be a gift to the run, so that it keeps one of
its own and throws it away. Starting the compiler is free, and every compiled run has it done before its clock starts, with
a measured fit or without (`start_compiler`): it is loaded, and has precompiled the headers that it shares between caches,
as an installation would have. Embedding, blocks, head and loss of the trial's learner are the real ones at the real shapes,
at most four blocks of them: further ones repeat the kernels of the first.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from gpuday.core.errors import EnvironmentFault
from gpuday.objectives import Vocabulary
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner
from gpuday.train.choices import WITHIN
from gpuday.train.device import compile_fault, first_line, is_out_of_memory, release, synchronise
from gpuday.train.scheduled import Scheduled
from gpuday.train.torn_kernels import clear_headers, clear_torn_kernels
from gpuday.train.trial import gradient_seconds, largest_kind, random_inputs

Basis = Literal["measured", "estimated", "none"]
MODES = {"cpu": ("default",), "cuda": ("default", "max-autotune-no-cudagraphs")}
MOST_BLOCKS = 4  # of the trial
# Shares of what a learner of one block takes to compile: each further block, and the head at each further mask rate. On
# two CPU cores at 4x256, cold: 15.1, 16.2 and 20.5 s at 1, 2 and 4 blocks, and 4.2 s more for a second mask rate.
BLOCK_SHARE, HEAD_SHARE = 0.1, 0.3
# Where there is no time for a trial: the same machine's gain at 4x256, and its seconds with one block.
ESTIMATED_GAIN, ESTIMATED_SECONDS = 1.3, 15.0


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A way to run the learner: eager, or compiled in one of torch's modes."""

    compiled: bool = True
    name: str = "default"
    """torch.compile's mode."""
    gain: float
    """Times eager's speed of forward and backward."""
    seconds: float
    """Of the budget, for compiling all layers, and what a schedule compiles anew."""
    basis: Basis


EAGER = Mode(compiled=False, gain=1.0, seconds=0.0, basis="none")


def choose_mode(
    recipe: Recipe,
    *,
    rows: int,
    seconds: float,
    seconds_left: float,
    dtype: torch.dtype,
    device: torch.device,
    vocabulary: Vocabulary,
) -> tuple[Mode, str, tuple[str, ...]]:
    """How to run the learner, why, and what a person should know. `seconds` are those of the budget, run eager.

    Raises EnvironmentFault when the recipe insists on compiling and it cannot be compiled here.
    """
    wanted = recipe.train.compile
    if wanted == "off":
        return EAGER, "eager, as train.compile says", ()
    modes = [Mode(gain=ESTIMATED_GAIN, seconds=_whole(recipe, ESTIMATED_SECONDS), basis="estimated")]
    trial_seconds = ESTIMATED_SECONDS * (1 + BLOCK_SHARE * (MOST_BLOCKS - 1))
    if wanted == "auto" and seconds_left < trial_seconds and not best_mode([EAGER, *modes], seconds=seconds).compiled:
        return EAGER, _why(EAGER, modes, seconds, wanted), ()  # and no first kernel is built to find that out
    began = time.perf_counter()
    fault, failed = start_compiler(device), ""
    for name in MODES[device.type]:
        if not fault and seconds_left - (time.perf_counter() - began) > trial_seconds:
            try:
                with _uncharged():
                    modes.append(_few_blocks(recipe, name, rows, dtype, device, vocabulary))
            except _CannotCompileError as error:
                if name == "default":
                    fault = str(error)
                else:
                    failed = f"; {name}: {error}"
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):  # which says nothing of the run: the estimate stands
                    raise
            release(device)
    if fault and wanted == "on":
        raise EnvironmentFault(f"train.compile is on, and {fault}", fix='mend that, or set train.compile="auto"')
    if fault:
        return EAGER, f"eager: {fault}", (f"training runs eager, which is slower: {fault}",)
    measured = [mode for mode in modes if mode.basis == "measured"] or modes
    best = best_mode(measured if wanted == "on" else [EAGER, *measured], seconds=seconds)
    return best, _why(best, measured, seconds, wanted) + failed, ()


def start_compiler(device: torch.device) -> str:
    """Load the compiler and build the smallest kernel; why that cannot be done here, or an empty string.

    Stays warm: this process's compiler, and the precompiled headers on disk. No kernel and no count of one stays.
    """
    clear_torn_kernels()  # of a run that was killed while it compiled
    with _uncharged():
        fault = compile_fault(device)
    if "C++ compile error" in fault and clear_headers():  # one of them may be torn, too
        with _uncharged():
            fault = compile_fault(device)
    return fault


def best_mode(modes: Sequence[Mode], *, seconds: float) -> Mode:
    """The mode that reads most in so many seconds; a later one must read 5% more than those before it."""
    best = modes[0]
    for mode in modes[1:]:
        if (seconds - mode.seconds) * mode.gain > (1 + WITHIN) * (seconds - best.seconds) * best.gain:
            best = mode
    return best


def _few_blocks(
    recipe: Recipe, name: str, rows: int, dtype: torch.dtype, device: torch.device, vocabulary: Vocabulary
) -> Mode:
    """The mode as measured on the recipe's learner with few blocks in a row."""
    blocks = min(MOST_BLOCKS, recipe.model.shape.depth)
    few = dataclasses.replace(recipe, model=recipe.model.shortened(blocks))
    learner = make_learner(few, vocab=vocabulary.size).to(device).train(recipe.train.dropout)
    for encoder in learner.encoders():
        encoder.dtype = dtype
    loss = partial(learner, random_inputs(recipe, rows, vocabulary, device), largest_kind(recipe))
    eager = gradient_seconds(loss, device)
    try:
        learner.compile(dynamic=False, fullgraph=True, mode=name)
        start = time.perf_counter()
        loss().backward()
        synchronise(device)
        first = time.perf_counter() - start
        compiled = gradient_seconds(loss, device)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # It ran eager just now: whatever this is called, it is of compiling.
        raise _CannotCompileError(f"the model could not be compiled: {first_line(error)}") from error
    seconds = _whole(recipe, (first - compiled) / (1 + BLOCK_SHARE * (blocks - 1)))
    return Mode(name=name, gain=eager / compiled, seconds=seconds, basis="measured")


def _whole(recipe: Recipe, seconds: float) -> float:
    """Seconds to compile all blocks at every length, dropout and kind of step, and the head at every mask rate beside
    them, from those of a learner with one block."""
    graphs = Scheduled(recipe, full_rows=1).graphs()
    trunks = len({(graph.length, graph.dropout, graph.kind) for graph in graphs})
    return seconds * (trunks * (1 + BLOCK_SHARE * (recipe.model.shape.depth - 1)) + HEAD_SHARE * (len(graphs) - trunks))


def _why(best: Mode, tried: Sequence[Mode], seconds: float, wanted: str) -> str:
    figures = "; ".join(
        f"{mode.name}: {mode.gain:.2g} times as fast, {mode.seconds:.0f} s to compile, {mode.basis}" for mode in tried
    )
    if wanted == "on":
        return f"compiled, as train.compile says ({figures})"
    verdict = f"compiled ({best.name})" if best.compiled else "eager"
    return f"{verdict}: reads most in {seconds:,.0f} s ({figures})"


class _CannotCompileError(Exception):
    """What runs eager does not run compiled: a graph breaks, or a kernel cannot be built."""


@contextlib.contextmanager
def _uncharged() -> Iterator[None]:
    """Compile with a cache of its own, and leave neither compiled code nor a count of it behind, whatever happens."""
    from torch._inductor.utils import fresh_cache

    counters = torch._dynamo.utils.counters  # noqa: SLF001 - no public name
    before = dict(counters["inductor"])
    raised: BaseException | None = None
    with fresh_cache():
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - raised again below; fresh_cache keeps its folder if it sees it
            raised = error
    torch.compiler.reset()
    counters["inductor"].clear()  # looked up anew: compiling may have put another in its place
    counters["inductor"].update(before)
    if raised is not None:
        raise raised
