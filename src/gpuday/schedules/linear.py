"""Linear warm-up, then a straight line to `end` at the deadline: "budgeted training" (Li et al., arXiv 1905.04753)."""

from dataclasses import dataclass

from gpuday.schedules import Schedule, check_phases, phased


@dataclass(frozen=True, kw_only=True)
class Linear(Schedule):
    """Up over `warmup`, then down for all that is left."""

    warmup: float = 0.02
    """Share of the budget over which the multiplier rises from 0 to 1."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from where the shape is to `end` in a straight line; 0 for none."""
    end: float = 0.0
    """Multiplier at the deadline."""

    def __post_init__(self) -> None:
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def _shape(self, done: float) -> float:
        return self.end + (1.0 - self.end) * (1.0 - done)
