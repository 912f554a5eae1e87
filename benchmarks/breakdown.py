"""Where a training step's time goes: matrix products, attention, fused pointwise kernels, optimizer, waiting.

The profiler sees the compiler's own kernels by name. Every microsecond of the training thread inside `take_step` is
booked on one kind by the innermost event, so that the shares add up to 1. Reading and masking run ahead on another
thread: what of them is not hidden shows as waiting, and what they cost alone stands beside the table.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from measure import Record, Spread, parser
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function
from workload import RATE, Training, training, workload

from gpuday.optim import Stepper
from gpuday.train.device import pick_device
from gpuday.train.parallel import Ranks
from gpuday.train.step import take_step

STEP, OPTIMIZER, WAITING = "bench/step", "bench/optimizer", "bench/waiting"
KINDS = ("matrix products", "attention products", "fused pointwise", "optimizer", "waiting", "other")
PRODUCTS = ("aten::mm", "aten::addmm", "aten::_linear", "mkldnn::", "mkl::", "nvjet", "gemm", "cutlass")
ATTENTION = ("aten::bmm", "aten::baddbmm", "scaled_dot_product", "flash", "fmha")


def main() -> None:
    """Profile the sizes that were asked for."""
    arguments = parser(__doc__, sizes="nano,micro").parse_args()
    if pick_device().type == "cpu":
        import torch._inductor.config as inductor

        inductor.cpp.enable_kernel_profile = True
    record = Record("breakdown", arguments.out)
    for size in arguments.sizes[: 1 if arguments.quick else None]:
        work = workload(size)
        with training(work, compiled=True) as run:
            figures = measure(run, steps=2 if arguments.quick else 4)
        record.add(size, shape=work.shape(), figures=figures)
        torch.compiler.reset()
    record.table()


def measure(run: Training, *, steps: int) -> dict[str, Any]:
    """Share of a step by kind; seconds of a step, and of reading and masking alone as a share of it."""
    stepper, microbatches = _Watched(run.stepper), _watched(run.microbatches)
    for _ in range(2):
        run.step()
    alone, plain = [], []
    for _ in range(steps):
        start = time.perf_counter()
        run.step()
        plain.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in run.microbatches():
            pass
        alone.append(time.perf_counter() - start)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if run.device.type == "cuda" else [])]
    with profile(activities=activities) as seen:
        for _ in range(steps):
            with record_function(STEP):
                take_step(
                    run.learner,
                    stepper,
                    microbatches,
                    ranks=Ranks(),
                    multiplier=RATE,
                    kind=run.work.kind,
                    clip=run.work.recipe.train.clip,
                )
    booked = book(seen.events())
    total = sum(booked.values())
    seconds = Spread.of(plain)
    return {
        **{kind: booked[kind] / total for kind in KINDS},
        "step_seconds": seconds,
        "profiled_step_seconds": total / steps / 1e6,
        "reading_and_masking_alone": Spread.of(alone).median / seconds.median,
    }


def book(events: Iterable[Any]) -> Counter[str]:
    """Microseconds by kind, over the events inside a step: each event's own time, without its children's."""
    booked: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    for event in events:
        around = {event.name, *_ancestors(event)}
        if STEP in around:
            booked[kind_of(event.name, around)] += event.self_cpu_time_total
    return booked


def kind_of(name: str, around: set[str]) -> str:
    """The kind of an event by its name and the names of the events around it."""
    if OPTIMIZER in around:
        return "optimizer"
    if WAITING in around:
        return "waiting"
    if any(part in name for part in ATTENTION):
        return "attention products"
    if any(part in name for part in PRODUCTS):
        return "matrix products"
    if "_fused_" in name:
        return "fused pointwise"
    return "other"


def _ancestors(event: Any) -> Iterator[str]:
    parent = event.cpu_parent
    while parent is not None:
        yield parent.name
        parent = parent.cpu_parent


def _watched(microbatches: Callable[[], Iterator[dict[str, Tensor]]]) -> Callable[[], Iterator[dict[str, Tensor]]]:
    """The same micro-batches, the wait for each visible to the profiler."""

    def watched() -> Iterator[dict[str, Tensor]]:
        made = microbatches()
        while True:
            with record_function(WAITING):
                inputs = next(made, None)
            if inputs is None:
                return
            yield inputs

    return watched


class _Watched(Stepper):
    """A stepper whose update is visible to the profiler."""

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper

    def step(self, multiplier: float, closure: Callable[[], None], *, decay: float = 1.0) -> None:
        with record_function(OPTIMIZER):
            self._stepper.step(multiplier, closure, decay=decay)

    def evaluation(self) -> AbstractContextManager[None]:
        return self._stepper.evaluation()

    def state(self) -> dict[str, Tensor]:
        return self._stepper.state()

    def load(self, state: dict[str, Tensor]) -> None:
        self._stepper.load(state)


if __name__ == "__main__":
    main()
