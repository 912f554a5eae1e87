"""Schedules: pure functions of the used fraction of the budget, for rates, batch size, mask rate and whatever follows."""

from abc import ABC, abstractmethod

from gpuday.core.errors import UsageError
from gpuday.core.parts import Part


class Schedule(Part, ABC):
    """fraction of the budget in [0, 1] -> multiplier of the scheduled quantity's peak, never below zero."""

    @abstractmethod
    def __call__(self, fraction: float) -> float: ...


def check_shares(**shares: float) -> None:
    """Refuse shares of the budget that are not in [0, 1]."""
    for name, value in shares.items():
        if not 0.0 <= value <= 1.0:
            raise UsageError(f"{name} is {value}", where=name, fix="give a share of the budget from 0 to 1")
