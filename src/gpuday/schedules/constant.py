"""No change over the budget; the control of every comparison of schedules (He et al., arXiv 1907.04595, sec. 3)."""

from dataclasses import dataclass

from gpuday.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same value throughout."""

    value: float = 1.0
    """The multiplier."""

    def __call__(self, fraction: float) -> float:
        return self.value
