"""Muon for the hidden matrices, AdamW for everything else.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024): the momentum of every matrix is
replaced by its nearest orthogonal matrix, found by five Newton-Schulz steps, in bf16 where the device has it. Matrices of
one shape are stacked and orthogonalised by one batched product each step; fused projections are taken apart first. The
products are nearly all that it costs: compiling what is between them gains too little (docs/experiments.md).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.core.errors import at_least, within
from gpuday.optim import Named, Optimizer, Stepper
from gpuday.optim.adamw import Adamw

MOST_ITERATIONS = 100  # five are enough
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from the reference above


@dataclass(frozen=True, kw_only=True)
class Muon(Optimizer):
    """Orthogonalised momentum on matrices, `rest` on tables, norms and biases."""

    lr: float = 0.01
    """Peak rate of the matrices; an update has spectral norm about lr * sqrt(max(1, rows / columns))."""
    momentum: float = 0.95
    """Decay of the momentum, per step."""
    nesterov: bool = True
    """Look ahead along the momentum."""
    weight_decay: float = 0.01
    """Decoupled decay of the matrices, times the rate, per step."""
    iterations: int = 5
    """Newton-Schulz steps."""
    rest: Adamw = Adamw(lr=5e-3, beta1=0.9, beta2=0.98, eps=1e-8, weight_decay=0.0)
    """AdamW for everything that is no hidden matrix."""

    def __post_init__(self) -> None:
        at_least("optimizer", lr=(self.lr, 0.0), weight_decay=(self.weight_decay, 0.0))
        within("optimizer", momentum=(self.momentum, 0.0, 1.0), iterations=(self.iterations, 1, MOST_ITERATIONS))

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32) -> Stepper:
        matrices = [p for p in parameters if p.role == "matrix"]
        others = [p for p in parameters if p.role != "matrix"]
        return MuonStepper(self, matrices, self.rest.build(others, dtype=dtype), dtype)


@torch.no_grad()
def orthogonalise(stack: Tensor, iterations: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The approximate polar factor of every matrix in [n, r, c], singular values in about [0.7, 1.2], in `dtype`."""
    a, b, c = COEFFICIENTS
    x = stack.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class MuonStepper(Stepper):
    """Momentum is kept as one stack [n, r, c] fp32 for every shape (r, c) of matrices."""

    def __init__(self, config: Muon, matrices: Sequence[Named], rest: Stepper, dtype: torch.dtype) -> None:
        self._config, self._rest, self._dtype = config, rest, dtype
        self._stacks: dict[tuple[int, int], list[Named]] = {}
        for p in matrices:
            rows, columns = p.tensor.shape
            self._stacks.setdefault((rows // p.fused, columns), []).append(p)
        self._momentum = {
            shape: torch.zeros(sum(p.fused for p in group), *shape, device=group[0].tensor.device)
            for shape, group in self._stacks.items()
        }

    @torch.no_grad()
    def step(self, multiplier: float, closure: Callable[[], None]) -> None:
        config = self._config
        rate = config.lr * multiplier
        for (rows, columns), group in self._stacks.items():
            gradient = torch.cat([_gradient(p).view(p.fused, rows, columns) for p in group])
            momentum = self._momentum[rows, columns].lerp_(gradient, 1.0 - config.momentum)
            update = gradient.lerp_(momentum, config.momentum) if config.nesterov else momentum
            update = orthogonalise(update, config.iterations, self._dtype) * max(1.0, rows / columns) ** 0.5
            for p, piece in zip(group, update.split([p.fused for p in group]), strict=True):
                p.tensor.mul_(1.0 - rate * config.weight_decay)
                p.tensor.add_(piece.reshape(p.tensor.shape).to(p.tensor.dtype), alpha=-rate)
        self._rest.step(multiplier, closure)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        yield

    def state(self) -> dict[str, Tensor]:
        own = {f"momentum/{rows}x{columns}": stack for (rows, columns), stack in self._momentum.items()}
        return {**own, **self._rest.state()}

    def load(self, state: dict[str, Tensor]) -> None:
        for (rows, columns), stack in self._momentum.items():
            stack.copy_(state[f"momentum/{rows}x{columns}"])
        self._rest.load({k: v for k, v in state.items() if not k.startswith("momentum/")})


def _gradient(parameter: Named) -> Tensor:
    if parameter.tensor.grad is None:
        raise RuntimeError(f"{parameter.name} took no part in the loss")
    return parameter.tensor.grad
