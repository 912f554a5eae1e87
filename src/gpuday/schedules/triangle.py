"""The crammed recipe's budget triangle: up to a late peak, then straight to zero.

Geiping & Goldstein, arXiv 2212.14034 (`budget-triangle2` of its code: start 0.25, peak at three quarters).
"""

from dataclasses import dataclass

from gpuday.schedules import Schedule, check_shares


@dataclass(frozen=True, kw_only=True)
class Triangle(Schedule):
    """From `start` to 1 at `peak`, then to 0 at the deadline; the paper's `min(start + x (1 - start) / peak, 4 (1 - x))`."""

    start: float = 0.25
    """Multiplier at fraction 0."""
    peak: float = 0.75
    """Share of the budget at which the multiplier is 1."""

    def __post_init__(self) -> None:
        check_shares(start=self.start, peak=self.peak)

    def __call__(self, fraction: float) -> float:
        if fraction < self.peak:
            return self.start + (1.0 - self.start) * fraction / self.peak
        return 1.0 if self.peak == 1.0 else max(0.0, (1.0 - fraction) / (1.0 - self.peak))
