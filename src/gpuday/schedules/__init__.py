"""Schedules: pure functions of the used fraction of the budget, for rates, batch size, mask rate and whatever follows."""

from abc import ABC, abstractmethod

from gpuday.core.parts import Part
from gpuday.schedules._phases import Fall, check_levels, check_phases, check_shares, half_cosine, phased

__all__ = ["Fall", "Schedule", "check_levels", "check_phases", "check_shares", "half_cosine", "phased"]


class Schedule(Part, ABC):
    """fraction of the budget in [0, 1] -> multiplier of the scheduled quantity's peak, never below zero."""

    @abstractmethod
    def __call__(self, fraction: float) -> float: ...
