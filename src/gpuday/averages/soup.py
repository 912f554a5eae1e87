"""The plain mean of every snapshot from a moment on: stochastic weight averaging (Izmailov et al., arXiv 1803.05407), which
model soups (Wortsman et al., arXiv 2203.05482) do with the weights of several runs.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpuday.averages import Average, Averager, Within
from gpuday.averages._memory import Spacing, holding, mix, restore, room, saved
from gpuday.core.errors import below_one


@dataclass(frozen=True, kw_only=True)
class Soup(Average):
    """The mean of all snapshots from `start` on: one copy of the weights. The present ones count as one snapshot more, so
    that the last of a run are never left out. Best where the rate does not fall to zero meanwhile."""

    start: float = 0.75
    """Share of the budget from which on snapshots are taken, as in arXiv 1803.05407."""
    every: float = 0.01
    """Share of the budget from one snapshot to the next; 0 takes each update."""

    def __post_init__(self) -> None:
        below_one("average", start=self.start, every=self.every)

    @property
    def copies(self) -> int:
        return 1

    def build(self, parameters: Mapping[str, nn.Parameter]) -> Averager:
        return _Averager(self, parameters)


class _Averager(Averager):
    def __init__(self, knobs: Soup, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters, self._spacing = parameters, Spacing(start=knobs.start, every=knobs.every)
        self._mean, self._count = room(parameters), 0
        self._present = False  # whether the newest snapshot is of the present weights

    def update(self, fraction: float, evaluation: Within) -> None:
        self._present = self._spacing.due(fraction)
        if self._present:
            self._count += 1
            mix(self._mean, self._parameters, 1.0 / self._count, evaluation)

    def swapped(self) -> AbstractContextManager[None]:
        if not self._count:
            return nullcontext()
        if self._present:
            return holding(self._parameters, self._mean)
        pairs = zip(self._mean, self._parameters.values(), strict=True)
        return holding(self._parameters, (torch.lerp(m, p.detach(), 1.0 / (self._count + 1)) for m, p in pairs))

    def state(self) -> dict[str, Tensor]:
        counts = {"count": self._count, "stretch": self._spacing.last, "present": int(self._present)}
        tensors = {name: torch.tensor(value) for name, value in counts.items()}
        return {**tensors, **saved(self._parameters, self._mean, "mean")}

    def load(self, state: dict[str, Tensor]) -> None:
        self._count, self._spacing.last = int(state["count"]), int(state["stretch"])
        self._present = bool(state["present"])
        restore(self._parameters, self._mean, "mean", state)
