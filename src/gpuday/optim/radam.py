"""RAdam: Adam whose rate grows with the certainty of its second moment (Liu et al., arXiv 1908.03265), torch's own.

The decay is decoupled. A warm-up is built in; a schedule's own is not needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpuday.core.errors import UsageError, at_least, below_one
from gpuday.optim import LEAST_EPS, Named, Optimizer, Stepper
from gpuday.optim._groups import TorchStepper, decay_groups

LEAST_BETA2 = 2.0 / 3.0  # the paper's rho is 2 / (1 - beta2) - 1 in the end, and must come above 5


@dataclass(frozen=True, kw_only=True)
class Radam(Optimizer):
    """One rate for everything; norms and biases do not decay."""

    lr: float = 1e-3
    """Peak rate."""
    beta1: float = 0.9
    """Decay of the first moment, per step."""
    beta2: float = 0.98
    """Decay of the second moment, per step; the rate is whole after a few times 1 / (1 - beta2) steps."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Decoupled decay, times the rate, per step."""

    def __post_init__(self) -> None:
        at_least("optimizer", lr=(self.lr, 0.0), eps=(self.eps, LEAST_EPS), weight_decay=(self.weight_decay, 0.0))
        below_one("optimizer", beta1=self.beta1, beta2=self.beta2)
        if self.beta2 <= LEAST_BETA2:
            raise UsageError(
                f"with beta2 {self.beta2} the second moment is never certain enough to be used, and radam is plain momentum",
                where="optimizer.beta2",
                fix="give more than 2/3, or choose sgd",
            )

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        groups = decay_groups(parameters, lr=self.lr, weight_decay=self.weight_decay)
        betas = (self.beta1, self.beta2)
        radam = torch.optim.RAdam(groups, betas=betas, eps=self.eps, decoupled_weight_decay=True)
        return TorchStepper(radam, parameters)
