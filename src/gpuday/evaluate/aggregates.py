"""Means over the tasks of a suite side by side, each with and without every task.

No single mean is right: the arithmetic one weighs tasks by how far their scores spread, the geometric and harmonic ones by
their weakest task, and the normalised one needs marks for chance and for people. So all are given, and what each owes to
one task.
"""

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gpuday.core.errors import UsageError

Mnli = Literal["once", "twice"]
MATCHED, MISMATCHED = "MNLI", "MNLI-mm"
# WNLI's dev set answers train questions with the labels turned round; the others diagnose, and train nothing.
NEVER = ("WNLI", "AX", "AX-b", "AX-g")


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One task's score as a share of 1, and the marks it lies between."""

    value: float
    """The median over seeds of the main metric."""
    chance: float | None = None
    """The main metric of guessing."""
    reference: float | None = None
    """The main metric of people."""

    @property
    def marked(self) -> bool:
        """Whether both marks are known, chance below the reference."""
        return self.chance is not None and self.reference is not None and self.chance < self.reference

    @property
    def normalised(self) -> float:
        """0 at chance, 1 at the reference; below and above them without a limit. Only where `marked`."""
        assert self.chance is not None and self.reference is not None, "ask only where marked"
        return (self.value - self.chance) / (self.reference - self.chance)


def counted(names: Collection[str], mnli: Mnli = "once") -> list[str]:
    """The tasks that a mean counts, in their order: MNLI once, or its two dev sets as Geiping & Goldstein do.

    Raises UsageError where MNLI is to count twice, and its second dev set was not scored.
    """
    if mnli == "twice" and MATCHED in names and MISMATCHED not in names:
        raise UsageError(
            f"{MATCHED} cannot count twice: {MISMATCHED} was not scored",
            where="--mnli",
            fix="put dev_mismatched into the task's folder and evaluate again, or count it once",
        )
    never = NEVER if mnli == "twice" else (*NEVER, MISMATCHED)
    return [name for name in names if name not in never]


def aggregates(table: Mapping[str, TaskScore], *, mnli: Mnli = "once") -> dict[str, Any]:
    """{"mnli", "tasks", KIND: {"value", "without": {task: {"value", "change"}}}, "not_positive", "without_marks"}.

    A KIND is a key of `MEANS`; its value is None where no task counts. `change` is the value without the task less that
    with it; without MNLI, both its dev sets are gone. `not_positive` names the tasks at or below 0, where the geometric
    and the harmonic mean are 0, as in their limit. `without_marks` names those that the normalised mean leaves out.
    """
    names = counted(table, mnli)
    return {
        "mnli": mnli,
        "tasks": names,
        **{kind: _with_and_without(mean, {name: table[name] for name in names}) for kind, mean in MEANS.items()},
        "not_positive": [name for name in names if table[name].value <= 0],
        "without_marks": [name for name in names if not table[name].marked],
    }


def left_out_in_turn(names: Collection[str]) -> dict[str, list[str]]:
    """{a task: the others}; MNLI takes its second dev set with it. Empty where nothing would be left."""
    turns = {out: [n for n in names if n != out and (out, n) != (MATCHED, MISMATCHED)] for out in names}
    return {out: rest for out, rest in turns.items() if rest and out != MISMATCHED}


def _with_and_without(mean: "Mean", table: Mapping[str, TaskScore]) -> dict[str, Any]:
    whole = mean(list(table.values()))
    without = {}
    for out, names in left_out_in_turn(table).items():
        rest = mean([table[name] for name in names])
        without[out] = {"value": rest, "change": None if rest is None or whole is None else rest - whole}
    return {"value": whole, "without": without}


def _arithmetic(scores: Sequence[TaskScore]) -> float | None:
    return statistics.fmean(score.value for score in scores) if scores else None


def _geometric(scores: Sequence[TaskScore]) -> float | None:
    if any(score.value <= 0 for score in scores):
        return 0.0
    return math.exp(statistics.fmean(math.log(score.value) for score in scores)) if scores else None


def _harmonic(scores: Sequence[TaskScore]) -> float | None:
    if any(score.value <= 0 for score in scores):
        return 0.0
    return 1.0 / statistics.fmean(1.0 / score.value for score in scores) if scores else None


def _normalised(scores: Sequence[TaskScore]) -> float | None:
    marked = [score.normalised for score in scores if score.marked]
    return statistics.fmean(marked) if marked else None


Mean = Callable[[Sequence[TaskScore]], float | None]
MEANS: dict[str, Mean] = {
    "arithmetic": _arithmetic,
    "geometric": _geometric,
    "harmonic": _harmonic,
    "normalised": _normalised,
}
