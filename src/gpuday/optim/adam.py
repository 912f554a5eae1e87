"""Adam (Kingma & Ba, arXiv 1412.6980) with its weight decay as a term of the gradient (L2), torch's fused kernel.

The decay of a weight is divided by the root of its second moment, so that weights with small gradients decay most. BERT
was trained with decoupled decay, which is `adamw`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpuday.core.errors import at_least, below_one
from gpuday.optim import LEAST_EPS, Named, Optimizer, Stepper
from gpuday.optim._groups import TorchStepper, decay_groups


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """One rate for everything; norms and biases do not decay."""

    lr: float = 1e-3
    """Peak rate."""
    beta1: float = 0.9
    """Decay of the first moment, per step."""
    beta2: float = 0.98
    """Decay of the second moment, per step."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.0
    """Added to the gradient, times the weight."""

    def __post_init__(self) -> None:
        at_least("optimizer", lr=(self.lr, 0.0), eps=(self.eps, LEAST_EPS), weight_decay=(self.weight_decay, 0.0))
        below_one("optimizer", beta1=self.beta1, beta2=self.beta2)

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        groups = decay_groups(parameters, lr=self.lr, weight_decay=self.weight_decay)
        betas = (self.beta1, self.beta2)
        return TorchStepper(torch.optim.Adam(groups, betas=betas, eps=self.eps, fused=True), parameters)
