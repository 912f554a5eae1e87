"""An exponential moving average of the weights whose memory grows with the run (Karras et al., arXiv 2312.02696, section 3.1).

A decay per step fits one number of steps, and nobody knows how many a budget of wall clock will buy. The power-function
profile of that paper has a width relative to the updates made so far, so that it is the same share of every run, and
needs no bias correction: the first update's weights are the whole of the first average.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpuday.averages import Average, Averager, Within
from gpuday.averages._memory import holding, mix, restore, room, saved
from gpuday.core.errors import within


@dataclass(frozen=True, kw_only=True)
class Ema(Average):
    """An exponential average that reaches back over a share of the run: one copy of the weights, moved at every update."""

    half_life: float = 0.01
    """Share of the updates so far, the latest ones, that has half of the average's weight; 0.5 is the plain mean of all.
    The default is about the window that did best in arXiv 2502.06761."""
    decay: float = 1.0
    """An update keeps no more than this of the average; 1 sets no bound. The customary decay per step, with `half_life` as
    its warm-up, for runs whose number of steps is known."""

    def __post_init__(self) -> None:
        within("average", half_life=(self.half_life, 1e-4, 0.5), decay=(self.decay, 0.0, 1.0))

    def kept(self, updates: int) -> float:
        """What the update of this number, from 1 on, keeps of the average before it.

        (1 - 1/t) ** g gives the updates up to s the weight (s/t) ** g in that of t; g puts half of it on the half-life.
        """
        exponent = math.log(0.5) / math.log1p(-self.half_life)
        return min(self.decay, (1.0 - 1.0 / updates) ** exponent)

    @property
    def copies(self) -> int:
        return 1

    def build(self, parameters: Mapping[str, nn.Parameter]) -> Averager:
        return _Averager(self, parameters)


class _Averager(Averager):
    def __init__(self, knobs: Ema, parameters: Mapping[str, nn.Parameter]) -> None:
        self._knobs, self._parameters = knobs, parameters
        self._average, self._updates = room(parameters), 0

    def update(self, fraction: float, evaluation: Within) -> None:
        self._updates += 1
        mix(self._average, self._parameters, 1.0 - self._knobs.kept(self._updates), evaluation)

    def swapped(self) -> AbstractContextManager[None]:
        return holding(self._parameters, self._average) if self._updates else nullcontext()

    def state(self) -> dict[str, Tensor]:
        return {"updates": torch.tensor(self._updates), **saved(self._parameters, self._average, "mean")}

    def load(self, state: dict[str, Tensor]) -> None:
        self._updates = int(state["updates"])
        restore(self._parameters, self._average, "mean", state)
