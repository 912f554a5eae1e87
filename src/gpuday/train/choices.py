"""The rules by which `fit` chooses dtype, threads and micro-batch from what is measured."""

import os
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from gpuday.recipe import Recipe
from gpuday.train.device import (
    cores,
    has_bf16,
    is_out_of_memory,
    local_ranks,
    measure_bound,
    release,
    use_threads,
)
from gpuday.train.trial import Point

# Tokens of a micro-batch. Compiled on two CPU cores at 4x256, 2,048 to 16,384 are within 3%, and 1,024 are 20% slower.
TRIAL_TOKENS = {"cpu": [1 << n for n in range(11, 15)], "cuda": [1 << n for n in range(13, 19)]}
WITHIN = 0.05  # of the best speed: what asks for fewer rows, or fewer threads, is taken


class Measure(Protocol):
    """What costs so many rows: see `Trial.point`."""

    def __call__(self, rows: int) -> Point: ...


def smallest_near_best(speeds: dict[int, float]) -> int:
    """The smallest number whose speed is within 5% of the best."""
    best = max(speeds.values())
    return min(number for number, speed in speeds.items() if speed >= (1 - WITHIN) * best)


def choose_dtype(wanted: str, device: torch.device, width: int) -> tuple[torch.dtype, str]:
    """The compute dtype, and why: bf16 where its products are faster than fp32's."""
    if wanted != "auto":
        return getattr(torch, wanted), f"{wanted}, as train.dtype says"
    if not has_bf16(device):
        return torch.float32, "float32: bf16 products are not faster here"
    fast, plain = (measure_bound(device, dtype, width) for dtype in (torch.bfloat16, torch.float32))
    return torch.bfloat16, f"bfloat16: its products are {fast / plain:.1f} times as fast as fp32's at width {width}"


def thread_candidates(device: torch.device) -> list[int]:
    """CPU threads to try, most first: what OMP_NUM_THREADS says, else all cores, half of them, and so on to one.

    Of all ranks on this machine together; several of them take all cores, since one alone cannot measure for all.
    [0], the process's own number, on a GPU: the work is not the CPU's.
    """
    if device.type != "cpu":
        return [0]
    ranks, told = local_ranks(), os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if ranks > 1 and told == "1":  # torchrun's own default
        told = ""
    if told.isdigit() and int(told):
        return [min(int(told) * ranks, cores())]
    return [cores()] if ranks > 1 else [cores() >> halvings for halvings in range(cores().bit_length())]


def choose_threads(
    candidates: Sequence[int], measure: Measure, rows: int, seconds_left: Callable[[], float]
) -> tuple[int, str]:
    """The fewest threads within 5% of the fastest, set from here on, and why. Halving ends where it costs speed."""
    if candidates == [0]:
        return 0, "the process's own number: the GPU does the work"
    if len(candidates) == 1:
        if (ranks := local_ranks()) > 1:
            return candidates[0], f"{candidates[0]}: shared by the {ranks} ranks of this machine"
        told = "OMP_NUM_THREADS says so" if "OMP_NUM_THREADS" in os.environ else "there is one core"
        return candidates[0], f"{candidates[0]}: {told}"
    speeds: dict[int, float] = {}
    for threads in candidates:
        if speeds and (seconds_left() < 0 or speeds[min(speeds)] < (1 - WITHIN) * max(speeds.values())):
            break
        use_threads(threads)
        speeds[threads] = rows / measure(rows).seconds
    chosen = smallest_near_best(speeds)
    use_threads(chosen)
    if len(speeds) == 1:
        return chosen, f"{chosen}: all cores; there was no time to try fewer"
    tried = ", ".join(f"{threads} {speed / max(speeds.values()):.0%}" for threads, speed in speeds.items())
    return chosen, f"{chosen}: the fewest within 5% of the fastest ({tried})"


def sizes_to_try(recipe: Recipe, device: torch.device) -> list[int]:
    """Micro-batches in rows, from small to large; none larger than a step whose rows the recipe fixes."""
    if recipe.train.microbatch:
        return [recipe.train.microbatch]
    sizes = sorted({max(1, tokens // recipe.data.length) for tokens in TRIAL_TOKENS[device.type]})
    most = recipe.batch.rows or sizes[-1]
    return [rows for rows in sizes if rows <= most] or [most]


def first_that_fits(rows: int, measure: Measure, device: torch.device) -> Point:
    """The point at `rows` rows, or at half as many again and again where memory ends; not even one is an error."""
    while True:
        try:
            return measure(rows)
        except (RuntimeError, MemoryError) as error:
            if rows == 1 or not is_out_of_memory(error):
                raise
        rows //= 2
        release(device)


def predicted_bytes(points: Sequence[Point], rows: int) -> float:
    """Bytes of another micro-batch: so much a row beside a constant, which one point alone cannot tell apart."""
    last = points[-1]
    if len(points) == 1:
        return last.bytes * rows / last.rows
    slope = (last.bytes - points[-2].bytes) / (last.rows - points[-2].rows)
    return max(0.0, last.bytes + slope * (rows - last.rows))


def search(
    sizes: Sequence[int], measure: Measure, *, room: float, seconds_left: Callable[[], float]
) -> tuple[list[Point], str]:
    """Measure sizes from small to large until one would not fit into `room` bytes or into the time that is left.

    Returns what was measured, and in words why the search ended early. The first size is tried in any case; running
    out of memory there is an error.
    """
    points: list[Point] = []
    for rows in sizes:
        if points:
            if (needed := predicted_bytes(points, rows)) > room:
                return points, f"{rows} rows would take {needed / 2**30:.2g} GiB of {room / 2**30:.2g}"
            if points[-1].spent * rows / points[-1].rows > seconds_left():
                return points, f"there was no time to try {rows}"
        try:
            points.append(measure(rows))
        except (RuntimeError, MemoryError) as error:
            if not points or not is_out_of_memory(error):
                raise
            return points, f"{rows} ran out of memory"
    return points, ""
