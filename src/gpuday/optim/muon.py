"""Muon for the hidden matrices, AdamW for everything else.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024): the momentum of every matrix is
replaced by its nearest orthogonal matrix, found by five Newton-Schulz steps, in bf16 where the device has it. Matrices of
one shape are stacked and orthogonalised by one batched product each step; fused projections are taken apart first. The
products are nearly all that it costs: compiling what is between them gains too little (docs/experiments.md).

Its variants are axes: the size of updates (Liu et al., arXiv 2502.16982), a second moment for every row (NorMuon, Li et
al., arXiv 2510.05491), cautious decay (Chen et al., arXiv 2510.12402), a momentum that warms up, and the fitted
coefficients of Polar Express (Amsel et al., arXiv 2505.16932).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Literal

import torch
from torch import Tensor

from gpuday.core.errors import UsageError, at_least, below_one, within
from gpuday.optim import Named, Optimizer, Stepper
from gpuday.optim._stacks import StackRule, StackStepper, State
from gpuday.optim.adamw import Adamw

MOST_ITERATIONS = 100  # five are enough
MOMENTUM_START = 0.85  # of the warm-up, where nothing else is said
MATCHED = 0.2  # root mean square of AdamW's updates, which scaling by `rms` gives to Muon's (arXiv 2502.16982)
Coefficients = Literal["jordan", "polar"]
# Of x' = a x + b x^3 + c x^5 for each iteration, the last one for all that follow. From the references above.
JORDAN = ((3.4445, -4.7750, 2.0315),)
POLAR = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
SAFETY = 1.01  # rounding must not carry a singular value out of where the Polar Express polynomials hold


@dataclass(frozen=True, kw_only=True)
class Muon(Optimizer):
    """Orthogonalised momentum on matrices, `rest` on tables, norms and biases."""

    lr: float = 0.01
    """Peak rate of the matrices, times what `scaling` says."""
    momentum: float = 0.95
    """Decay of the momentum, per step."""
    momentum_start: float = MOMENTUM_START
    """What the momentum begins at, where it warms up."""
    momentum_steps: int = 0
    """Steps until the momentum is whole, in a straight line; 0: it is from the first."""
    nesterov: bool = True
    """Look ahead along the momentum."""
    weight_decay: float = 0.01
    """Decoupled decay of the matrices, times the rate, per step."""
    cautious: bool = False
    """Decay only those weights that the update brings nearer to zero."""
    iterations: int = 5
    """Newton-Schulz steps."""
    coefficients: Coefficients = "jordan"
    """Of the Newton-Schulz steps; `polar` has others for each, and ends nearer to an orthogonal matrix."""
    scaling: Literal["aspect", "rms"] = "aspect"
    """Spectral norm of an update at rate 1. `aspect`: sqrt(max(1, rows / columns)). `rms`: 0.2 sqrt(max(rows, columns)), so
    that a weight moves as far as with AdamW, whose rate and decay may then be taken."""
    variance: float = 0.0
    """Decay of a second moment of every row, per step, by whose root the row is divided; NorMuon's is 0.95, 0 is none."""
    rest: Adamw = Adamw(lr=5e-3, beta1=0.9, beta2=0.98, eps=1e-8, weight_decay=0.0)
    """AdamW for everything that is no hidden matrix."""

    def __post_init__(self) -> None:
        at_least(
            "optimizer",
            lr=(self.lr, 0.0),
            weight_decay=(self.weight_decay, 0.0),
            momentum_steps=(self.momentum_steps, 0),
        )
        within(
            "optimizer",
            iterations=(self.iterations, 1, MOST_ITERATIONS),
        )
        below_one("optimizer", momentum=self.momentum, momentum_start=self.momentum_start, variance=self.variance)
        if self.momentum_start != MOMENTUM_START and not self.momentum_steps:
            raise UsageError(
                "momentum_start is where the momentum begins to warm up, and it does not",
                where="optimizer.momentum_start",
                fix="give momentum_steps too",
            )

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        def update(gradient: Tensor, state: State) -> Tensor:
            return self._update(gradient, state, dtype)

        return StackStepper(
            parameters,
            StackRule(start=self._start, update=update),
            lambda others: self.rest.build(others, dtype=dtype),
            lr=self.lr,
            weight_decay=self.weight_decay,
            cautious=self.cautious,
        )

    def _start(self, n: int, r: int, c: int, device: torch.device) -> State:
        state = {"momentum": torch.zeros(n, r, c, device=device)}
        if self.variance:
            state["variance"] = torch.zeros(n, r, 1, device=device)
        if self.momentum_steps:
            state["step"] = torch.zeros(())
        return state

    def _update(self, gradient: Tensor, state: State, dtype: torch.dtype) -> Tensor:
        decay = self._momentum(state)
        momentum = state["momentum"].lerp_(gradient, 1.0 - decay)
        update = gradient.lerp_(momentum, decay) if self.nesterov else momentum
        update = orthogonalise(update, self.iterations, dtype, self.coefficients)
        if self.variance:
            update = _even_rows(update.float(), state["variance"], self.variance)
        rows, columns = update.shape[1:]
        if self.scaling == "rms":
            return update * (MATCHED * max(rows, columns) ** 0.5)
        return update * max(1.0, rows / columns) ** 0.5

    def _momentum(self, state: State) -> float:
        if not self.momentum_steps:
            return self.momentum
        share = min(1.0, state["step"].item() / self.momentum_steps)
        state["step"] += 1.0
        return (1.0 - share) * self.momentum_start + share * self.momentum


@torch.no_grad()
def orthogonalise(
    stack: Tensor, iterations: int = 5, dtype: torch.dtype = torch.bfloat16, coefficients: Coefficients = "jordan"
) -> Tensor:
    """The approximate polar factor of every matrix in [n, r, c], in `dtype`, its singular values in about [0.7, 1.2];
    with `polar` coefficients in about [0.98, 1.01] where those of the matrix spread over a factor of a hundred."""
    x = stack.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    polar = coefficients == "polar"
    x = x / (x.norm(dim=(1, 2), keepdim=True) * (SAFETY if polar else 1.0) + 1e-7)
    steps = _safe(POLAR) if polar else JORDAN
    for a, b, c in islice(chain(steps, repeat(steps[-1])), iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _safe(steps: tuple[tuple[float, float, float], ...]) -> tuple[tuple[float, float, float], ...]:
    """The polynomials of x / SAFETY, but for the last."""
    return (*((a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in steps[:-1]), steps[-1])


def _even_rows(stack: Tensor, variance: Tensor, decay: float) -> Tensor:
    """Rows over the roots of their averaged mean squares, which are advanced; every matrix as long as before, as in the
    code of NorMuon's authors."""
    variance.lerp_(stack.square().mean(dim=2, keepdim=True), 1.0 - decay)
    even = stack / (variance.sqrt() + 1e-10)
    return even * (stack.norm(dim=(1, 2), keepdim=True) / (even.norm(dim=(1, 2), keepdim=True) + 1e-10))
