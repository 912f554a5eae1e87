"""Triangles one after another: cyclical rates (Smith, arXiv 1506.01186)."""

from dataclasses import dataclass

from gpuday.core.errors import within
from gpuday.schedules import Schedule, check_levels, check_phases, phased


@dataclass(frozen=True, kw_only=True)
class MultiCycle(Schedule):
    """`cycles` times from `end` to the peak and back in straight lines; each peak is `decay` times the one before."""

    warmup: float = 0.0
    """Share of the budget over which the multiplier rises from 0 to `end`."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from where the shape is to `end` in a straight line; 0 for none."""
    end: float = 0.0
    """Multiplier between two cycles and at the deadline."""
    cycles: int = 8
    """Number of triangles."""
    decay: float = 1.0
    """Height above `end` of a peak over the height of the one before; 0.5 is the paper's `triangular2`."""

    def __post_init__(self) -> None:
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end)
        within("", cycles=(self.cycles, 1, 1000))
        check_levels(decay=self.decay)

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def _shape(self, done: float) -> float:
        cycle = min(int(done * self.cycles), self.cycles - 1)
        height = 1.0 - abs(2.0 * (done * self.cycles - cycle) - 1.0)
        return self.end + (1.0 - self.end) * self.decay**cycle * height
