"""What is scheduled at a step: the fraction of the budget at which it begins says all that it varies.

Whatever a compiled graph depends on moves through few values, each of which compiles once.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from gpuday.objectives import Objective
from gpuday.recipe import Recipe, extent
from gpuday.schedules import Schedule
from gpuday.schedules.constant import Constant
from gpuday.train.noise import Estimate

UNKNOWN = Estimate(0.0, 0.0)
PARTS = 100  # of a budget, each of which is looked at beforehand
STEPS = 100  # that each of them is taken to have


class Graph(NamedTuple):
    """What the graphs of a step are compiled for."""

    predicted: int
    kind: str
    length: int
    dropout: float


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A step as its schedules have it."""

    rows: int
    """Rows of the token store that it reads."""
    rate: float
    """Share of the peak learning rates."""
    decay: float
    """Share of the peak weight decay."""
    multiplier: float
    """Share of the objective's peak rate."""
    kind: str
    """Which of the objective's kinds of steps it is."""
    predicted: int
    """Positions of a piece that are predicted."""
    length: int
    """Tokens of a piece that a row is read in; a whole row at the most."""
    dropout: float
    """Share of the model's dropout probabilities."""

    @property
    def graph(self) -> Graph:
        return Graph(self.predicted, self.kind, self.length, self.dropout)


class Scheduled:
    """(fraction of the budget, position of the first row, what is known of the gradient's noise) -> Moment; `full_rows`
    are those of a full step. `rows` are those of a step that was made before, whatever the batch would say now."""

    def __init__(self, recipe: Recipe, *, full_rows: int) -> None:
        self._recipe, self._full_rows, self._full_length = recipe, full_rows, recipe.data.length
        self._mask_level = Levels(recipe.mask_rate, recipe.train.mask_levels)
        self._dropout_level = Levels(recipe.dropout, recipe.train.dropout_levels)
        self._lengths = recipe.lengths()
        self._compiled: set[Graph] = set()

    def __call__(self, fraction: float, first_row: int, noise: Estimate, *, rows: int = 0) -> Moment:
        recipe = self._recipe
        rows = rows or recipe.batch.rows_at(
            fraction,
            full_rows=self._full_rows,
            length=self._full_length,
            noise_rows=noise.rows if noise.trace else 0.0,
        )
        multiplier, kind = self._mask_level(fraction), recipe.objective.kind_at(fraction, first_row, rows)
        length = nearest_length(recipe.length(fraction) * self._full_length, self._lengths)
        return Moment(
            rows=rows,
            rate=recipe.rate(fraction),
            decay=recipe.decay(fraction),
            multiplier=multiplier,
            kind=kind,
            predicted=recipe.objective.predicted(length, multiplier, kind),
            length=length,
            dropout=self._dropout_level(fraction),
        )

    def graphs(self) -> set[Graph]:
        """What a run is expected to compile: the graphs of every hundredth of the budget, with the kinds that it has."""
        found, parts = set(), kinds_over(self._recipe.objective)
        for number, kinds in enumerate([*parts, parts[-1]]):
            at = self(number / PARTS, 0, UNKNOWN)
            for kind in kinds:
                predicted = self._recipe.objective.predicted(at.length, at.multiplier, kind)
                found.add(Graph(predicted, kind, at.length, at.dropout))
        return found

    @property
    def most_graphs(self) -> int:
        """No run compiles more, whenever its steps begin: every level of one with every level of the others."""
        objective = self._recipe.objective
        lengths = self._lengths[:1] if isinstance(self._recipe.length, Constant) else self._lengths
        heads = {
            (length, kind, objective.predicted(length, multiplier, kind))
            for length in lengths
            for kind in objective.kinds
            for multiplier in self._mask_level.values
        }
        return len(self._dropout_level.values) * len(heads)

    def compiles(self, moment: Moment) -> bool:
        """Whether a compiled learner has not met such a step yet."""
        return moment.graph not in self._compiled

    def made(self, moment: Moment) -> None:
        """A step like this one was made: the next one compiles nothing."""
        self._compiled.add(moment.graph)

    def forget(self) -> None:
        """Shapes are others from here on: each graph compiles once more."""
        self._compiled.clear()


def kinds_over(objective: Objective) -> list[Counter[str]]:
    """Of each hundredth of the budget, how many of a hundred steps are of which kind."""
    return [
        Counter(objective.kind_at(part / PARTS, part * STEPS + step, 1) for step in range(STEPS))
        for part in range(PARTS)
    ]


class Levels:
    """A schedule that moves through a few values, since each of them compiles something once."""

    def __init__(self, schedule: Schedule, levels: int) -> None:
        low, high = extent(schedule)
        even = [high] if levels < 2 else [low + (high - low) * i / (levels - 1) for i in range(levels)]
        self.values = sorted(set(even))
        self._schedule = schedule

    def __call__(self, fraction: float) -> float:
        """The level nearest to the schedule's value at this fraction of the budget."""
        wanted = self._schedule(fraction)
        return min(self.values, key=lambda value: abs(value - wanted))


def nearest_length(wanted: float, among: list[int]) -> int:
    """The nearest by ratio."""
    return min(among, key=lambda length: abs(math.log(length / max(wanted, 1.0))))
