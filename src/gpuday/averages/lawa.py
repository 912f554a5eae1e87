"""The plain mean of the latest snapshots: latest weight averaging (Kaddour, arXiv 2209.14981)."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpuday.averages import Average, Averager, Within
from gpuday.averages._memory import Spacing, holding, restore, room, saved
from gpuday.core.errors import below_one, within


@dataclass(frozen=True, kw_only=True)
class Lawa(Average):
    """The mean of the latest `k` snapshots: holds as many copies of the weights, in every checkpoint too. The present
    weights count as the newest snapshot, so that the last of a run are never left out; before there are `k`, the mean is
    of those that there are.

    It never reaches back over `k` times `every` of the budget: what is older is left out. In a run with fewer updates than
    that there are fewer snapshots in the mean, and with none as near as that it is the present weights alone."""

    k: int = 5
    """Snapshots in the mean, and copies of the weights in memory."""
    every: float = 0.002
    """Share of the budget from one snapshot to the next: the first update in each stretch of that length is one; 0 takes
    each update, and sets no bound but `k`. With the default `k` the mean reaches over the last hundredth of the run, about
    the window that did best in arXiv 2502.06761; a run of a hundred updates or fewer has no other update in it."""
    on_cpu: bool = False
    """Whether the snapshots are in the memory of the CPU; a look at the average then brings them to the device."""

    def __post_init__(self) -> None:
        within("average", k=(self.k, 2, 64))
        below_one("average", every=self.every)

    @property
    def copies(self) -> int:
        return self.k

    def build(self, parameters: Mapping[str, nn.Parameter]) -> Averager:
        return _Averager(self, parameters)


class _Averager(Averager):
    def __init__(self, knobs: Lawa, parameters: Mapping[str, nn.Parameter]) -> None:
        self._k, self._parameters = knobs.k, parameters
        self._spacing = Spacing(start=knobs.every, every=knobs.every)
        self._spare = [room(parameters, device="cpu" if knobs.on_cpu else "") for _ in range(knobs.k)]
        self._snapshots: list[list[Tensor]] = []  # oldest first
        self._stretches: list[int] = []  # of the budget in which they were taken
        self._present = False  # whether the newest snapshot is of the present weights

    @torch.no_grad()
    def update(self, fraction: float, evaluation: Within) -> None:
        self._present = self._spacing.due(fraction)
        if self._present:
            place = self._next_place(self._spacing.last)
            with evaluation():
                for copy, parameter in zip(place, self._parameters.values(), strict=True):
                    copy.copy_(parameter)

    def swapped(self) -> AbstractContextManager[None]:
        return holding(self._parameters, self._means()) if self._snapshots else nullcontext()

    def state(self) -> dict[str, Tensor]:
        tensors = {
            "stretches": torch.tensor(self._stretches, dtype=torch.int64),
            "present": torch.tensor(self._present),
        }
        for age, snapshot in enumerate(reversed(self._snapshots)):
            tensors |= saved(self._parameters, snapshot, str(age))
        return tensors

    def load(self, state: dict[str, Tensor]) -> None:
        stretches = state["stretches"].tolist()
        for age, stretch in zip(reversed(range(len(stretches))), stretches, strict=True):
            restore(self._parameters, self._next_place(stretch), str(age), state)
        self._spacing.last, self._present = max(stretches, default=-1), bool(state["present"])

    def _next_place(self, stretch: int) -> list[Tensor]:
        """Room for the newest snapshot, in this stretch: that of the oldest, once all is taken."""
        place = self._spare.pop() if self._spare else self._snapshots.pop(0)
        self._snapshots.append(place)
        self._stretches = [*self._stretches, stretch][-self._k :]
        return place

    def _means(self) -> Iterator[Tensor]:
        """The mean of each parameter, summed from the oldest snapshot on."""
        near = sum(stretch > self._spacing.last - self._k for stretch in self._stretches)
        kept = self._snapshots[-min(near, self._k - (not self._present)) :]
        for index, parameter in enumerate(self._parameters.values()):
            total = torch.zeros_like(parameter, requires_grad=False) if self._present else parameter.detach().clone()
            for snapshot in kept:
                total.add_(snapshot[index].to(parameter.device))
            yield total.div_(len(kept) + (not self._present))
