"""Stochastic gradient descent with Nesterov's momentum (Sutskever et al., "On the importance of initialization and momentum
in deep learning", 2013), torch's fused kernel."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpuday.core.errors import UsageError, at_least, below_one
from gpuday.optim import Named, Optimizer, Stepper
from gpuday.optim._groups import TorchStepper, decay_groups


@dataclass(frozen=True, kw_only=True)
class Sgd(Optimizer):
    """One rate for everything; norms and biases do not decay."""

    lr: float = 0.3
    """Peak rate."""
    momentum: float = 0.9
    """Decay of the momentum, per step; gradients are added to it whole, so that steps are 1 / (1 - momentum) rates long."""
    nesterov: bool = True
    """Look ahead along the momentum."""
    weight_decay: float = 1e-4
    """Added to the gradient, times the weight."""

    def __post_init__(self) -> None:
        at_least("optimizer", lr=(self.lr, 0.0), weight_decay=(self.weight_decay, 0.0))
        below_one("optimizer", momentum=self.momentum)
        if self.nesterov and not self.momentum:
            raise UsageError("nesterov looks ahead along a momentum, and there is none", fix="give nesterov = false")

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        groups = decay_groups(parameters, lr=self.lr, weight_decay=self.weight_decay)
        sgd = torch.optim.SGD(groups, momentum=self.momentum, nesterov=self.nesterov, fused=True)
        return TorchStepper(sgd, parameters)
