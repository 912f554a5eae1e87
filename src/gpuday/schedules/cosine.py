"""Linear warm-up, then half a cosine to `end` at the deadline (Loshchilov & Hutter, arXiv 1608.03983)."""

from dataclasses import dataclass

from gpuday.schedules import Schedule, check_phases, half_cosine, phased


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Up over `warmup`, then down to `end` along a half cosine; or up along it, with `rising`."""

    warmup: float = 0.02
    """Share of the budget over which the multiplier rises from 0 to 1."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from where the shape is to `end` in a straight line; 0 for none."""
    end: float = 0.0
    """Multiplier at the deadline; with `rising` where the half cosine begins, and to which only a cool-down leads."""
    rising: bool = False
    """Run through the half cosine backwards, from `end` up to 1."""

    def __post_init__(self) -> None:
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def _shape(self, done: float) -> float:
        fallen = 1.0 - done if self.rising else done
        return self.end + (1.0 - self.end) * half_cosine(fallen)
