"""The peak, then a straight line to `end` at the deadline.

`budget-dive` of the code of Geiping & Goldstein, arXiv 2212.14034: -slow falls for three quarters, -fast for one.
"""

from dataclasses import dataclass

from gpuday.core.errors import within
from gpuday.schedules import Schedule, check_phases, phased


@dataclass(frozen=True, kw_only=True)
class Dive(Schedule):
    """At 1 until `fall` is left, then down."""

    fall: float = 0.5
    """Share of what follows the warm-up over which the multiplier falls from 1 to `end`."""
    warmup: float = 0.02
    """Share of the budget over which the multiplier rises from 0 to 1."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from where the shape is to `end` in a straight line; 0 for none."""
    end: float = 0.0
    """Multiplier at the deadline."""

    def __post_init__(self) -> None:
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end)
        within("", fall=(self.fall, 0.001, 1.0))

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def _shape(self, done: float) -> float:
        return self.end + (1.0 - self.end) * min(1.0, (1.0 - done) / self.fall)
