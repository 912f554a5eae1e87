"""Muon's step: eager and compiled Newton-Schulz on the stacks of each size, against this machine's own products.

`share` is the optimizer's part of a whole step at the batch that the preset takes for a budget: ten minutes, and one for
which `auto` picks the size.
"""

from functools import partial

import torch
from measure import Record, alternate, parser
from workload import build_learner, compute_dtype, fixed_inputs, workload

from gpuday.optim.muon import Muon, orthogonalise
from gpuday.train.device import measure_bound, pick_device, synchronise
from gpuday.train.parameters import named_parameters

BUDGETS = {"nano": ("3m", "10m"), "micro": ("10m", "31m"), "mini": ("10m", "5h")}
ITERATIONS = 5


def main() -> None:
    """Time each size."""
    arguments = parser(__doc__, sizes=",".join(BUDGETS)).parse_args()
    record = Record("optimizer", arguments.out)
    for size in arguments.sizes[: 1 if arguments.quick else None]:
        torch._dynamo.reset()  # noqa: SLF001 - no public name
        record.add(size, shape=workload(size).shape(), figures=measure(size, rounds=3 if arguments.quick else 7))
    record.table()


def measure(size: str, *, rounds: int) -> dict[str, object]:
    """Seconds of the whole step, of its orthogonalisation eager and compiled, and shares of a training step."""
    device, work = pick_device(), workload(size)
    learner, dtype = build_learner(work, device, compiled=True), compute_dtype(pick_device())
    inputs = fixed_inputs(work, device)

    def gradients() -> None:
        learner(inputs, work.kind).backward()
        synchronise(device)

    gradients()
    assert isinstance(work.recipe.optimizer, Muon)
    stepper = work.recipe.optimizer.build(named_parameters(learner), dtype=dtype)
    stacks = [stack for name, stack in stepper.state().items() if name.startswith("momentum/")]
    compiled = torch.compile(orthogonalise, dynamic=False)
    arms = {
        "gradients": gradients,
        "step": partial(stepper.step, 1e-6, lambda: None),
        "eager": partial(_all, orthogonalise, stacks, dtype),
        "compiled": partial(_all, compiled, stacks, dtype),
    }
    seconds = alternate(arms, rounds=rounds, warm_up=2)
    bound = measure_bound(device, dtype, work.recipe.model.width)
    figures: dict[str, object] = {
        "step_seconds": seconds["step"],
        "newton_schulz_seconds": seconds["eager"],
        "compiled_over_eager": seconds["eager"].median / seconds["compiled"].median,
        "newton_schulz_share_of_bound": sum(map(flops, stacks)) / seconds["eager"].median / bound,
    }
    per_token = seconds["gradients"].median / (work.microbatch * work.length)
    for budget in BUDGETS[size]:
        whole = workload(size, budget=budget)
        gradients_seconds = whole.rows * whole.length * per_token
        figures[f"share_{budget}"] = seconds["step"].median / (seconds["step"].median + gradients_seconds)
    return figures


def flops(stack: torch.Tensor) -> float:
    """Of Newton-Schulz on a stack [n, r, c]: per iteration two products with the long side, one without."""
    n, short, long = stack.shape[0], min(stack.shape[1:]), max(stack.shape[1:])
    return n * ITERATIONS * (4.0 * short * short * long + 2.0 * short**3)


def _all(call: object, stacks: list[torch.Tensor], dtype: torch.dtype) -> None:
    assert callable(call)
    for stack in stacks:
        call(stack, ITERATIONS, dtype)


if __name__ == "__main__":
    main()
