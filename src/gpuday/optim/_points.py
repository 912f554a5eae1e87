"""Gradients at other points than the weights, through the closure of a step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from gpuday.core.seeds import stream_seed
from gpuday.optim import Gradients, Named


@contextmanager
def moved(weights: Sequence[torch.nn.Parameter], by: Sequence[Tensor], scale: float | Tensor) -> Iterator[None]:
    """Inside the block the weights stand `scale` times `by` away; behind it they are what they were, to the bit."""
    before = [w.detach().clone() for w in weights]
    with torch.no_grad():
        for w, direction in zip(weights, by, strict=True):
            w.add_(direction * scale)
    try:
        yield
    finally:
        with torch.no_grad():
            for w, was in zip(weights, before, strict=True):
                w.copy_(was)


def hessian_diagonal(
    parameters: Sequence[Named], closure: Gradients, *, distance: float, seed: int, draw: int
) -> dict[str, Tensor]:
    """One sample of an unbiased estimate of the Hessian's diagonal; the gradients are as they were afterwards.

    Hutchinson's: s * (H s) for a random sign at every weight (Bekas, Kokiopoulou & Saad, "An estimator for the diagonal
    of a matrix", 2007), exact where the Hessian is diagonal. H s is the central difference of the gradients `distance` to
    both sides (Pearlmutter, "Fast exact multiplication by the Hessian", 1994, section 2), exact where the loss is quadratic.
    The signs are those of sample number `draw` of the seed, the same on all ranks.
    """
    asked = [p for p in parameters if p.tensor.grad is not None]
    weights = [p.tensor for p in asked]
    kept = _gradients(weights)
    device = weights[0].device
    generator = torch.Generator(device).manual_seed(stream_seed(seed, "hessian", draw))
    signs = [torch.randint(0, 2, w.shape, generator=generator, device=device).to(w.dtype) * 2.0 - 1.0 for w in weights]
    found = []
    for side in (distance, -distance):
        with moved(weights, signs, side):
            closure(clip=False)
        found.append(_gradients(weights))
    ahead, behind = found
    for w, gradient in zip(weights, kept, strict=True):
        w.grad = gradient
    names = [p.name for p in asked]
    return {n: s * (a - b) / (2.0 * distance) for n, s, a, b in zip(names, signs, ahead, behind, strict=True)}


def _gradients(weights: Sequence[torch.nn.Parameter]) -> list[Tensor]:
    return [w.grad.clone() for w in weights if w.grad is not None]
