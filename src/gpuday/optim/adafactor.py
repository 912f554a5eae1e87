"""Adafactor: second moments of rows and columns only, steps relative to the size of the weights, their length clipped
(Shazeer & Stern, arXiv 1804.04235), torch's own.

Rates are relative to the root mean square of each tensor, and no greater than 1 / sqrt(step). There is no first moment.
torch bounds moments from below where the paper adds a constant to squared gradients; the bound here is so small that
gradients of a language model, small as they are, do not meet it. torch's own default would.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpuday.core.errors import at_least, within
from gpuday.optim import Named, Optimizer, Stepper
from gpuday.optim._groups import TorchStepper, decay_groups

LEAST_ROOT = 1e-15  # its square, 1e-30, is the paper's first epsilon


@dataclass(frozen=True, kw_only=True)
class Adafactor(Optimizer):
    """One relative rate for everything; norms and biases do not decay."""

    lr: float = 0.02
    """Peak rate, relative to the root mean square of a tensor's weights."""
    least_scale: float = 1e-3
    """The root mean square that a tensor is taken to have at least: the paper's second epsilon."""
    decay_power: float = 0.8
    """The second moment's decay at step t is 1 - t^-decay_power."""
    clip: float = 1.0
    """Greatest root mean square of an update before its rate."""
    weight_decay: float = 0.0
    """Decoupled decay, times the rate, per step."""

    def __post_init__(self) -> None:
        at_least(
            "optimizer",
            lr=(self.lr, 0.0),
            least_scale=(self.least_scale, 0.0),
            clip=(self.clip, 1.0),
            weight_decay=(self.weight_decay, 0.0),
        )
        within("optimizer", decay_power=(self.decay_power, 0.0, 1.0))

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        groups = decay_groups(parameters, lr=self.lr, weight_decay=self.weight_decay)
        adafactor = torch.optim.Adafactor(
            groups, beta2_decay=-self.decay_power, eps=(LEAST_ROOT, self.least_scale), d=self.clip
        )
        return TorchStepper(adafactor, parameters, alike=lambda tensor: tensor.dim() > 1)
