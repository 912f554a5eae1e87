"""Half cosines one after another: warm restarts (Loshchilov & Hutter, arXiv 1608.03983).

The paper restarts at once; Ibrahim et al., arXiv 2403.08763, warm the rate up again before each fall.
"""

from dataclasses import dataclass

from gpuday.core.errors import within
from gpuday.schedules import Schedule, check_phases, half_cosine, phased


@dataclass(frozen=True, kw_only=True)
class CosineRestarts(Schedule):
    """Up over `warmup`, then `cycles` half cosines of equal length, each down to `end`."""

    warmup: float = 0.02
    """Share of the budget over which the multiplier rises from 0 to 1."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from where the shape is to `end` in a straight line; 0 for none."""
    end: float = 0.0
    """Multiplier at the deadline."""
    cycles: int = 4
    """Number of half cosines."""
    rise: float = 0.1
    """Share of a cycle, from the second on, over which the multiplier climbs back to 1; 0 restarts at once."""

    def __post_init__(self) -> None:
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end)
        within("", cycles=(self.cycles, 1, 1000), rise=(self.rise, 0.0, 0.9))

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def _shape(self, done: float) -> float:
        cycle = min(int(done * self.cycles), self.cycles - 1)
        within_cycle, rise = done * self.cycles - cycle, self.rise if cycle else 0.0
        height = within_cycle / rise if within_cycle < rise else half_cosine((within_cycle - rise) / (1.0 - rise))
        return self.end + (1.0 - self.end) * height
