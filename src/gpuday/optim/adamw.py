"""AdamW: Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101), torch's fused kernel."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpuday.core.errors import at_least, below_one
from gpuday.optim import LEAST_EPS, Named, Optimizer, Stepper
from gpuday.optim._groups import TorchStepper, decay_groups


@dataclass(frozen=True, kw_only=True)
class Adamw(Optimizer):
    """One rate for everything; norms and biases do not decay."""

    lr: float = 1e-3
    """Peak rate."""
    beta1: float = 0.9
    """Decay of the first moment, per step."""
    beta2: float = 0.98
    """Decay of the second moment, per step."""
    eps: float = 1e-12
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Decoupled decay, times the rate, per step."""

    def __post_init__(self) -> None:
        at_least("optimizer", lr=(self.lr, 0.0), eps=(self.eps, LEAST_EPS), weight_decay=(self.weight_decay, 0.0))
        below_one("optimizer", beta1=self.beta1, beta2=self.beta2)

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        groups = decay_groups(parameters, lr=self.lr, weight_decay=self.weight_decay)
        betas = (self.beta1, self.beta2)
        return TorchStepper(torch.optim.AdamW(groups, betas=betas, eps=self.eps, fused=True), parameters)
