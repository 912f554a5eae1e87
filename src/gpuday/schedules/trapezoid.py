"""Linear warm-up, plateau, cool-down to `end` exactly at the deadline.

With no plateau it is the linear decay to zero of Bergsma et al., arXiv 2502.15938; with one, the warm-up-stable-decay
of Hu et al., arXiv 2404.06395. Other ways down than the straight line: Haegele et al., arXiv 2405.18392.
"""

from dataclasses import dataclass

from gpuday.schedules import Fall, Schedule, check_phases, phased


@dataclass(frozen=True, kw_only=True)
class Trapezoid(Schedule):
    """Up over `warmup`, down over `cooldown`, both shares of the budget."""

    warmup: float = 0.02
    """Share of the budget over which the multiplier rises from 0 to 1."""
    cooldown: float = 0.8
    """Share of the budget over which it falls from 1 to `end`."""
    end: float = 0.0
    """Multiplier at the deadline, to which only a cool-down leads."""
    cooldown_shape: Fall = "linear"
    """The way down: a straight line; 1 - sqrt of the time in it, which is steep at first; or half a cosine."""

    def __post_init__(self) -> None:
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end, ends_by_itself=False)

    def __call__(self, fraction: float) -> float:
        return phased(
            fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end, fall=self.cooldown_shape
        )

    def _shape(self, done: float) -> float:
        return 1.0
