"""Linear warm-up, then a power of the time that is left (Chen et al., "DeepLab", arXiv 1606.00915, "poly")."""

from dataclasses import dataclass

from gpuday.core.errors import within
from gpuday.schedules import Schedule, check_phases, phased


@dataclass(frozen=True, kw_only=True)
class Polynomial(Schedule):
    """Up over `warmup`, then `end` + (1 - `end`) (1 - time since) ** `power`."""

    warmup: float = 0.02
    """Share of the budget over which the multiplier rises from 0 to 1."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from where the shape is to `end` in a straight line; 0 for none."""
    end: float = 0.0
    """Multiplier at the deadline."""
    power: float = 2.0
    """Exponent; below 1 the multiplier falls late, above 1 early, and 1 is a straight line."""

    def __post_init__(self) -> None:
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end)
        within("", power=(self.power, 0.01, 100.0))

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def _shape(self, done: float) -> float:
        return self.end + (1.0 - self.end) * (1.0 - done) ** self.power
