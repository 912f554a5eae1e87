"""Linear warm-up, then one over the square root of the time (Vaswani et al., arXiv 1706.03762, sec. 5.3).

Zhai et al., arXiv 2106.04560, cool it down to zero in the end and shift it by a timescale of its own.
"""

import math
from dataclasses import dataclass

from gpuday.core.errors import within
from gpuday.schedules import Schedule, check_phases, phased


@dataclass(frozen=True, kw_only=True)
class InverseSqrt(Schedule):
    """Up over `warmup`, then sqrt(`timescale` / (`timescale` + time since)).

    With both shares equal that is sqrt(`warmup` / fraction).
    """

    warmup: float = 0.02
    """Share of the budget over which the multiplier rises from 0 to 1."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from where the shape is to `end` in a straight line; 0 for none."""
    end: float = 0.0
    """Multiplier at the deadline, to which only a cool-down leads."""
    timescale: float = 0.02
    """Share of the budget, counted from the end of the warm-up, after which the multiplier is 1 / sqrt(2)."""

    def __post_init__(self) -> None:
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end, ends_by_itself=False)
        within("", timescale=(self.timescale, 1e-6, 1.0))

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def _shape(self, done: float) -> float:
        since = done * (1.0 - self.warmup)
        return math.sqrt(self.timescale / (self.timescale + since))
