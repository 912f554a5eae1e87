"""One cycle: up, down by as much, and the rest of the budget still lower (Smith & Topin, arXiv 1708.07120)."""

from dataclasses import dataclass

from gpuday.core.errors import within
from gpuday.schedules import Schedule, check_levels, check_phases, phased


@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """In straight lines from `start` to 1 at `peak`, to `start` at twice `peak`, then to `end` at the deadline."""

    start: float = 0.1
    """Multiplier before and after the cycle."""
    peak: float = 0.45
    """Share of what follows the warm-up at which the multiplier is 1; 0.5 leaves no time after the cycle."""
    warmup: float = 0.0
    """Share of the budget over which the multiplier rises from 0 to `start`."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from where the shape is to `end` in a straight line; 0 for none."""
    end: float = 0.0
    """Multiplier at the deadline, to which with a `peak` of 0.5 only a cool-down leads."""

    def __post_init__(self) -> None:
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end, ends_by_itself=self.peak < 0.5)
        check_levels(start=self.start)
        within("", peak=(self.peak, 0.01, 0.5))

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def _shape(self, done: float) -> float:
        if done <= 2.0 * self.peak:
            return self.start + (1.0 - self.start) * (1.0 - abs(done - self.peak) / self.peak)
        return self.end + (self.start - self.end) * (1.0 - done) / (1.0 - 2.0 * self.peak)
