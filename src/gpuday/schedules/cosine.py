"""Linear warm-up, then half a cosine to `end` at the deadline (Loshchilov & Hutter, arXiv 1608.03983)."""

import math
from dataclasses import dataclass

from gpuday.schedules import Schedule, check_shares


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Up over `warmup`, then down to `end` along a half cosine."""

    warmup: float = 0.02
    """Share of the budget over which the multiplier rises from 0 to 1."""
    end: float = 0.0
    """Multiplier at the deadline."""

    def __post_init__(self) -> None:
        check_shares(warmup=self.warmup, end=self.end)

    def __call__(self, fraction: float) -> float:
        if fraction < self.warmup:
            return fraction / self.warmup
        done = 1.0 if self.warmup == 1.0 else (fraction - self.warmup) / (1.0 - self.warmup)
        return max(0.0, self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))
