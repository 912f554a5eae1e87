"""The crammed recipe's budget triangle: up to a late peak, then straight to zero.

Geiping & Goldstein, arXiv 2212.14034 (`budget-triangle2` of its code: start 0.25, peak at three quarters).
"""

from dataclasses import dataclass

from gpuday.schedules import Schedule, check_levels, check_phases, check_shares, phased


@dataclass(frozen=True, kw_only=True)
class Triangle(Schedule):
    """From `start` to 1 at `peak`, then to `end` at the deadline.

    With the defaults it is the paper's `min(start + x (1 - start) / peak, 4 (1 - x))`.
    """

    start: float = 0.25
    """Multiplier at fraction 0, or at the end of a warm-up."""
    peak: float = 0.75
    """Share of what follows the warm-up at which the multiplier is 1; 1.0 leaves no time to fall in."""
    warmup: float = 0.0
    """Share of the budget over which the multiplier rises from 0 to `start`."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from where the shape is to `end` in a straight line; 0 for none."""
    end: float = 0.0
    """Multiplier at the deadline, to which with a `peak` of 1.0 only a cool-down leads."""

    def __post_init__(self) -> None:
        check_shares(peak=self.peak)
        check_levels(start=self.start)
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end, ends_by_itself=self.peak < 1.0)

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def _shape(self, done: float) -> float:
        if done < self.peak:
            return self.start + (1.0 - self.start) * done / self.peak
        return 1.0 if self.peak == 1.0 else self.end + (1.0 - self.end) * (1.0 - done) / (1.0 - self.peak)
