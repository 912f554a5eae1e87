"""Compiled training in tokens/s at every size, as a share of what this machine's own matrix products reach.

`forward and backward` is one micro-batch again and again; `step` is the training loop's own step at the batch that the
preset takes for ten minutes: loader, micro-batches, optimizer. Two bounds: the machine's product [4096, D] x [D, 4D]
as the fit measures it, and the products of this very model, each timed alone. All of them alternate.
"""

import time

import torch
from measure import Record, Spread, alternate, parser
from products import harmonic_bound, product_seconds
from workload import Workload, compute_dtype, fixed_inputs, training, workload

from gpuday.train.device import measure_bound, pick_device, synchronise

SECONDS = 25.0  # of timing for each size, about


def main() -> None:
    """Time the sizes that were asked for."""
    arguments = parser(__doc__, sizes="nano,micro,mini,base,compare").parse_args()
    record = Record("speed", arguments.out)
    sizes = [s for s in arguments.sizes if not (arguments.quick and s in ("mini", "base"))]
    for size in sizes:
        work = workload(size)
        figures = measure(work, pick_device(), seconds=SECONDS / (3 if arguments.quick else 1))
        record.add(size, shape=work.shape(), figures=figures)
        torch.compiler.reset()
    record.table()


def measure(work: Workload, device: torch.device, *, seconds: float) -> dict[str, Spread | float]:
    """Tokens/s of both, the bounds, and the shares of them."""
    dtype = compute_dtype(device)
    bounds: list[float] = []
    inputs = fixed_inputs(work, device)
    with training(work, compiled=True, device=device) as run:

        def forward_and_backward() -> None:
            run.learner(inputs, work.kind).backward()
            run.learner.zero_grad(set_to_none=True)
            synchronise(device)

        def bound() -> None:
            bounds.append(measure_bound(device, dtype, work.recipe.model.width))

        start = time.perf_counter()
        forward_and_backward()
        compiling = time.perf_counter() - start
        start = time.perf_counter()
        forward_and_backward()
        one = time.perf_counter() - start
        passes = alternate(
            {"passes": forward_and_backward, "bound": bound}, rounds=rounds_in(seconds / 2, one), warm_up=1
        )["passes"]
        start = time.perf_counter()
        run.step()  # allocates, and compiles what only the optimizer needs
        one = time.perf_counter() - start
        step = alternate({"step": run.step, "bound": bound}, rounds=rounds_in(seconds / 2, one), warm_up=0)["step"]
        products = harmonic_bound(work, product_seconds(work, device, dtype, rounds=3))
    tokens = work.microbatch * work.length
    speed, stepping, machine = passes.rate(tokens), step.rate(work.rows * work.length), Spread.of(bounds)
    useful = work.flops_per_token * speed.median
    return {
        "tokens_per_second": speed,
        "step_tokens_per_second": stepping,
        "useful_flops_per_second": useful,
        "bound": machine,
        "share": useful / machine.median,
        "step_share": work.flops_per_token * stepping.median / machine.median,
        "product_bound": products,
        "product_share": useful / products,
        "compile_seconds": compiling,
    }


def rounds_in(seconds: float, one: float) -> int:
    """How many rounds of `one` seconds fit: an odd number from 1 to 31, so that a median is one of them."""
    return min(31, int(seconds / one) // 2 * 2 + 1)


if __name__ == "__main__":
    main()
