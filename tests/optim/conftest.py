"""Parameters of every role, and gradients that a seed decides."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gpuday.optim import Named, Optimizer

Reference = Callable[[Tensor, Tensor, dict, int, float, float], Tensor]

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


def nothing(**_: object) -> None:
    """A closure that is not to be asked."""
    raise AssertionError("this optimizer takes the gradients as they stand")


@pytest.fixture
def follow(make_parameters, give_gradients) -> Callable[..., None]:
    """Hold steps of an optimizer, at changing rates and decays, to a formula for one matrix in double precision.

    The formula gets weights, gradient, an empty dict that is its own, the number of the step from 1, rate and decay, and
    returns the new weights. What is fused is taken apart for it, unless `whole`.
    """

    def hold(
        optimizer: Optimizer, reference: Reference, *, role: str = "", whole: bool = False, steps: int = 5
    ) -> None:
        parameters = make_parameters(role)
        stepper = optimizer.build(parameters)
        start = [p.tensor.detach().double() for p in parameters]
        wanted = [
            [*w.chunk(1 if whole else p.fused)] if w.dim() else [w] for p, w in zip(parameters, start, strict=True)
        ]
        kept = [[{} for _ in parts] for parts in wanted]
        for step in range(1, steps + 1):
            multiplier, decay = 1.1 - 0.1 * step, 0.4 + 0.3 * step
            give_gradients(parameters, step)
            for p, parts, states in zip(parameters, wanted, kept, strict=True):
                gradient = p.tensor.grad.double()
                gradients = gradient.chunk(len(parts)) if gradient.dim() else [gradient]
                share = 0.0 if p.role == "vector" else optimizer.weight_decay * decay
                for i, (w, g) in enumerate(zip(parts, gradients, strict=True)):
                    parts[i] = reference(w, g, states[i], step, optimizer.lr * multiplier, share)
            stepper.step(multiplier, nothing, decay=decay)
        for p, parts, was in zip(parameters, wanted, start, strict=True):
            expected = torch.cat(parts) if was.dim() else parts[0]
            moved = expected - was
            assert moved.norm() > 0.0, p.name
            assert (p.tensor.detach().double() - expected).norm() < 2e-5 * moved.norm() + 1e-7, p.name

    return hold


def moments(g: Tensor, state: dict, step: int, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    """Adam's two moments after this gradient, their bias corrected."""
    state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g * g
    return state["m"] / (1 - beta1**step), state["v"] / (1 - beta2**step)


@pytest.fixture(name="moments")
def moments_of_a_formula() -> Callable[..., tuple[Tensor, Tensor]]:
    """Adam's two moments, for formulas that begin with them."""
    return moments


class Eigh:
    """torch's, but in the dtypes `at` it does not converge."""

    def __init__(self, real: Callable[..., tuple[Tensor, Tensor]]) -> None:
        self._real, self.at = real, set[torch.dtype]()

    def __call__(self, stack: Tensor) -> tuple[Tensor, Tensor]:
        if stack.dtype in self.at:
            raise torch.linalg.LinAlgError("linalg.eigh: the algorithm failed to converge")
        return self._real(stack)


@pytest.fixture
def eigh_that_fails(monkeypatch: pytest.MonkeyPatch) -> Eigh:
    """In place of torch's; give it the dtypes `at` which it fails."""
    eigh = Eigh(torch.linalg.eigh)
    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    return eigh
