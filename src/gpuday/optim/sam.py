"""SAM: the gradient is taken at the worst point near the weights, uphill by a fixed distance (Foret et al., arXiv
2010.01412), and given to another optimizer.

Every step computes the gradients twice. The second ones are clipped like the first. The distance is not scheduled.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from gpuday.core.errors import UsageError, at_least
from gpuday.optim import Gradients, Named, Optimizer, Stepper
from gpuday.optim._points import moved
from gpuday.optim.adamw import Adamw


@dataclass(frozen=True, kw_only=True)
class Sam(Optimizer):
    """Any optimizer, with the gradient from uphill."""

    distance: float = 0.05
    """Length of the step uphill, over all parameters together."""
    inner: Optimizer = Adamw()
    """What moves the weights."""

    def __post_init__(self) -> None:
        at_least("optimizer", distance=(self.distance, 0.0))
        if isinstance(self.inner, Sam):
            raise UsageError("sam cannot hold another sam", where="optimizer.inner", fix="give another optimizer")

    @property
    def period(self) -> int:
        return self.inner.period

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        return SamStepper(self, parameters, self.inner.build(parameters, dtype=dtype, seed=seed))


class SamStepper(Stepper):
    """Has no state but the inner stepper's."""

    def __init__(self, config: Sam, parameters: Sequence[Named], inner: Stepper) -> None:
        self._config, self._parameters, self._inner = config, parameters, inner

    def step(self, multiplier: float, closure: Gradients, *, decay: float = 1.0) -> None:
        pairs = [(p.tensor, p.tensor.grad) for p in self._parameters if p.tensor.grad is not None]
        weights, gradients = [w for w, _ in pairs], [g for _, g in pairs]
        scale = self._config.distance / (torch.nn.utils.get_total_norm(gradients) + 1e-12)
        with moved(weights, gradients, scale):
            closure()
        self._inner.step(multiplier, closure, decay=decay)

    def evaluation(self) -> AbstractContextManager[None]:
        return self._inner.evaluation()

    def state(self) -> dict[str, Tensor]:
        return self._inner.state()

    def load(self, state: dict[str, Tensor]) -> None:
        self._inner.load(state)
