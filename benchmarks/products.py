"""The matrix products of a training step, timed alone: what the machine can do at the model's own shapes."""

from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from measure import Spread, alternate
from torch import Tensor
from workload import Workload

from gpuday.models.heads import MaskedLM
from gpuday.models.linear import Linear
from gpuday.train.device import synchronise

Product = tuple[int, int, int]
"""(rows, inputs, outputs) of x W^T with x [rows, inputs] and W [outputs, inputs]."""


def products_of(work: Workload) -> Counter[Product]:
    """How often each product of a linear layer stands in one micro-batch's forward pass; attention's are not counted."""
    with torch.device("meta"):
        model = MaskedLM(work.recipe.model, vocab=work.vocab, length=work.length)
    tokens = work.microbatch * work.length
    predicted = work.microbatch * work.recipe.objective.predicted(work.length, 1.0, work.kind)
    found: Counter[Product] = Counter()
    for part, rows in ((model.encoder, tokens), (model.head, predicted)):
        for module in part.modules():
            if isinstance(module, Linear):
                outputs, inputs = module.weight.shape
                found[rows, inputs, outputs] += 1
    found[predicted, work.recipe.model.width, work.vocab] += 1  # the decoder
    return found


def flops(products: Counter[Product]) -> float:
    """FLOPs of forward, input gradient and weight gradient of them all."""
    return sum(3 * 2.0 * rows * inputs * outputs * count for (rows, inputs, outputs), count in products.items())


def product_seconds(work: Workload, device: torch.device, dtype: torch.dtype, *, rounds: int) -> dict[Product, Spread]:
    """Seconds of plain `torch.mm` for forward, input gradient and weight gradient together, by product."""
    shapes = list(products_of(work))
    arms = {str(shape): partial(_three, *_operands(shape, device, dtype), device) for shape in shapes}
    calls: dict[str, Callable[[], object]] = dict(arms)
    seconds = alternate(calls, rounds=rounds, warm_up=1)
    return {shape: seconds[str(shape)] for shape in shapes}


def harmonic_bound(work: Workload, seconds: dict[Product, Spread]) -> float:
    """FLOP/s if a micro-batch were nothing but its products, each at the speed it has alone."""
    counts = products_of(work)
    return flops(counts) / sum(seconds[shape].median * count for shape, count in counts.items())


def _operands(shape: Product, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    rows, inputs, outputs = shape
    own = torch.Generator(device).manual_seed(0)
    sizes = ((rows, inputs), (outputs, inputs), (rows, outputs))
    x, w, g = (torch.randn(*size, device=device, generator=own).to(dtype) for size in sizes)
    return x, w, g


def _three(x: Tensor, w: Tensor, g: Tensor, device: torch.device) -> None:
    torch.mm(x, w.t())
    torch.mm(g, w)
    torch.mm(g.t(), x)
    synchronise(device)
