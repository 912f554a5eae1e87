"""A straight line from one value to another over the first part of the budget, constant after.

For batch size growth (Smith et al., arXiv 1711.00489) and falling mask rates (Yang et al., arXiv 2212.10650).
"""

from dataclasses import dataclass

from gpuday.core.errors import at_least
from gpuday.schedules import Schedule, check_phases, check_shares, phased


@dataclass(frozen=True, kw_only=True)
class Ramp(Schedule):
    """From `start` to `end` between 0 and `until`."""

    start: float = 0.0
    """Multiplier at fraction 0, or at the end of a warm-up."""
    end: float = 1.0
    """Multiplier from `until` on, until a cool-down."""
    until: float = 1.0
    """Share of what follows the warm-up at which the end is reached."""
    warmup: float = 0.0
    """Share of the budget over which the multiplier rises from 0 to `start`."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from where the line is to 0 in a straight line; 0 for none."""

    def __post_init__(self) -> None:
        at_least("", start=(self.start, 0.0), end=(self.end, 0.0))
        check_shares(until=self.until)
        check_phases(warmup=self.warmup, cooldown=self.cooldown)

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=0.0)

    def _shape(self, done: float) -> float:
        reached = 1.0 if self.until == 0 else min(1.0, done / self.until)
        return self.start + (self.end - self.start) * reached
