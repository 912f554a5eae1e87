"""Linear warm-up, plateau, linear cool-down to `end` exactly at the deadline.

With no plateau it is the linear decay to zero of Bergsma et al., arXiv 2502.15938; with one, the warm-up-stable-decay
of Hu et al., arXiv 2404.06395.
"""

from dataclasses import dataclass

from gpuday.schedules import Schedule, check_shares


@dataclass(frozen=True, kw_only=True)
class Trapezoid(Schedule):
    """Up over `warmup`, down over `cooldown`, both shares of the budget."""

    warmup: float = 0.02
    """Share of the budget over which the multiplier rises from 0 to 1."""
    cooldown: float = 0.8
    """Share of the budget over which it falls from 1 to `end`."""
    end: float = 0.0
    """Multiplier at the deadline."""

    def __post_init__(self) -> None:
        check_shares(warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def __call__(self, fraction: float) -> float:
        up = 1.0 if self.warmup == 0 else fraction / self.warmup
        down = 1.0 if self.cooldown == 0 else self.end + (1.0 - self.end) * (1.0 - fraction) / self.cooldown
        return max(0.0, min(1.0, up, down))
