"""Parameters of every role, and gradients that a seed decides."""

from collections.abc import Callable

import pytest
import torch

from gpuday.optim import Named

# name, shape, role, fused: wide, tall, square, stacked, two of one shape, a table, a norm's scale, a bias, a scalar.
PARAMETERS = (
    ("blocks.0.mixer.qkv.weight", (96, 32), "matrix", 3),
    ("blocks.0.mixer.out.weight", (32, 32), "matrix", 1),
    ("blocks.0.feedforward.up.weight", (128, 32), "matrix", 2),
    ("blocks.0.feedforward.down.weight", (32, 64), "matrix", 1),
    ("blocks.1.feedforward.down.weight", (32, 64), "matrix", 1),
    ("embedding.weight", (50, 32), "embedding", 1),
    ("blocks.0.mixer_norm.weight", (32,), "vector", 1),
    ("blocks.0.mixer.out.bias", (32,), "vector", 1),
    ("positions.scale", (), "vector", 1),
)


@pytest.fixture
def make_parameters() -> Callable[[], list[Named]]:
    """Named parameters, always with the same values; those of one role, if one is named."""

    def make(role: str = "") -> list[Named]:
        generator = torch.Generator().manual_seed(0)
        made = [
            Named(name=name, tensor=torch.nn.Parameter(torch.randn(shape, generator=generator)), role=kind, fused=fused)
            for name, shape, kind, fused in PARAMETERS
        ]
        return [p for p in made if p.role == (role or p.role)]

    return make


@pytest.fixture
def give_gradients() -> Callable[..., None]:
    """Set every gradient to a sample that depends on its name and the step, or to zero."""

    def give(parameters: list[Named], step: int, *, scale: float = 0.1) -> None:
        for i, p in enumerate(parameters):
            generator = torch.Generator().manual_seed(1000 * step + i)
            p.tensor.grad = scale * torch.randn(p.tensor.shape, generator=generator)

    return give
