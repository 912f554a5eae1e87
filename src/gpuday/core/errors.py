"""Errors a user can act on: what happened, where, the likeliest fix, and the exit code of the process.

Exit codes: 0 done, 2 usage, 3 data, 4 does not fit, 5 environment, 70 internal, 75 interrupted and resumable.
"""

import errno
import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

from gpuday.core.spelling import closest

DONE = 0
INTERNAL = 70
FULL = (errno.ENOSPC, errno.EDQUOT)  # numbers of an OSError: the disk, or its owner's share, has no room


class GpudayError(Exception):
    """A fault with a sentence for the person who can mend it. Raise a subclass: it fixes the exit code."""

    exit_code: ClassVar[int] = INTERNAL
    told: bool | None = None  # of a fault that several ranks have: whether another one prints it already

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class UsageError(GpudayError):
    """The command, a flag, a recipe or a config is wrong."""

    exit_code = 2


class DataError(GpudayError):
    """The text, the token store or a task file cannot be used."""

    exit_code = 3


class FitError(GpudayError):
    """The recipe does not fit the device's memory or the disk, or the trained model no format that it was to have."""

    exit_code = 4


class EnvironmentFault(GpudayError):
    """A library, a device or a folder that is needed is not there."""

    exit_code = 5


class Interrupted(GpudayError):
    """A signal stopped the run after its state was saved; the same command resumes it."""

    exit_code = 75


def at_least(where: str, **values: tuple[float, float]) -> None:
    """Refuse numbers below their least value, and what is infinite: `at_least("batch", rows=(rows, 0))`."""
    for name, (value, least) in values.items():
        finite = "a finite number, " if value == math.inf else ""
        _refuse_unless(least <= value < math.inf, where, name, value, f"{finite}{least:,} or more")


def within(where: str, **values: tuple[float, float, float]) -> None:
    """Refuse numbers outside of their range, whose ends belong to it: `within("train", clip=(clip, 0.0, 100.0))`."""
    for name, (value, least, most) in values.items():
        _refuse_unless(least <= value <= most, where, name, value, f"a number from {least:,} to {most:,}")


def below_one(where: str, **values: float) -> None:
    """Refuse numbers outside of [0, 1): decays, which at 1 let nothing new in, and moments that must come before the end of
    a run: `below_one("optimizer", beta1=beta1)`."""
    for name, value in values.items():
        _refuse_unless(0.0 <= value < 1.0, where, name, value, "a number from 0 to below 1")


def _refuse_unless(fits: bool, where: str, name: str, value: float, asked: str) -> None:
    if not fits:
        raise UsageError(f"{name} is {value}", where=f"{where}.{name}" if where else name, fix=f"give {asked}")


def nearest(word: str, choices: Iterable[str]) -> str:
    """'Did you mean ...?' for the closest of the choices, or the list of them where nothing is close."""
    known = sorted(choices)
    return did_you_mean([repr(choice) for choice in closest(word, known)]) or "known: " + ", ".join(known)


def did_you_mean(words: Sequence[str]) -> str:
    """A question that names the words as they are to be typed; empty without any."""
    *others, last = words or [""]
    return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?" if last else ""
