"""A straight line from one value to another over the first part of the budget, constant after.

For batch size growth (Smith et al., arXiv 1711.00489) and falling mask rates (Yang et al., arXiv 2212.10650).
"""

from dataclasses import dataclass

from gpuday.schedules import Schedule, check_shares


@dataclass(frozen=True, kw_only=True)
class Ramp(Schedule):
    """From `start` to `end` between 0 and `until`."""

    start: float = 0.0
    """Multiplier at fraction 0."""
    end: float = 1.0
    """Multiplier from fraction `until` on."""
    until: float = 1.0
    """Share of the budget at which the end is reached."""

    def __post_init__(self) -> None:
        check_shares(until=self.until)

    def __call__(self, fraction: float) -> float:
        done = 1.0 if self.until == 0 else min(1.0, fraction / self.until)
        return max(0.0, self.start + (self.end - self.start) * done)
