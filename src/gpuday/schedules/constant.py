"""No change over the budget; the control of every comparison of schedules (He et al., arXiv 1907.04595, sec. 3)."""

from dataclasses import dataclass

from gpuday.core.errors import UsageError
from gpuday.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same value throughout."""

    value: float = 1.0
    """The multiplier."""

    def __post_init__(self) -> None:
        if self.value < 0.0:
            raise UsageError(f"value is {self.value}", where="a schedule", fix="give 0 or more")

    def __call__(self, fraction: float) -> float:
        return self.value
