"""No change over the budget; the control of every comparison of schedules (He et al., arXiv 1907.04595, sec. 3)."""

from dataclasses import dataclass

from gpuday.core.errors import at_least
from gpuday.schedules import Schedule, check_phases, phased


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same value between warm-up and cool-down, neither of which it has unless asked."""

    value: float = 1.0
    """The multiplier."""
    warmup: float = 0.0
    """Share of the budget over which the multiplier rises from 0 to `value`."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from `value` to `end` in a straight line; 0 for none."""
    end: float = 0.0
    """Multiplier at the deadline, to which only a cool-down leads."""

    def __post_init__(self) -> None:
        at_least("", value=(self.value, 0.0))
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end, ends_by_itself=False)

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def _shape(self, done: float) -> float:
        return self.value
