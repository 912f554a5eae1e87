"""Values that hold for a while and then change at once: curricula of lengths and rates (Nagatsuka et al., 2021).

"Pre-training a BERT with Curriculum Learning by Increasing Block-Size of Input Text", RANLP 2021.
"""

from dataclasses import dataclass

from gpuday.core.errors import UsageError
from gpuday.schedules import Schedule, check_levels, check_phases, phased


@dataclass(frozen=True, kw_only=True)
class Stages(Schedule):
    """The first stage whose `until` has not come yet; rates jump from one to the next."""

    stages: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    """Pairs (until, multiplier), until being a share of what follows the warm-up; the last one's is 1."""
    warmup: float = 0.0
    """Share of the budget over which the multiplier rises from 0 to the first stage's."""
    cooldown: float = 0.0
    """Share of the budget over which it falls from the stage it meets to `end` in a straight line; 0 for none."""
    end: float = 0.0
    """Multiplier at the deadline, to which only a cool-down leads."""

    def __post_init__(self) -> None:
        check_phases(warmup=self.warmup, cooldown=self.cooldown, end=self.end, ends_by_itself=False)
        untils = [until for until, _ in self.stages]
        if untils != sorted(set(untils)) or untils[:1] <= [0.0] or untils[-1] != 1.0:
            fix = "give pairs whose first numbers grow from above 0 to 1, such as [[0.25, 0.5], [1.0, 1.0]]"
            raise UsageError(f"stages end at {untils}", where="stages", fix=fix)
        check_levels(**{f"stages[{i}][1]": value for i, (_, value) in enumerate(self.stages)})

    def __call__(self, fraction: float) -> float:
        return phased(fraction, self._shape, warmup=self.warmup, cooldown=self.cooldown, end=self.end)

    def _shape(self, done: float) -> float:
        return next((value for until, value in self.stages if done < until), self.stages[-1][1])
