"""Whether the state in a checkpoint is one that a run can go on from. Its checksum says that it is unchanged, not whose it is."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from gpuday.core.errors import DataError
from gpuday.core.sealed import is_count
from gpuday.train.checkpoint import Damaged, Saved
from gpuday.train.progress import Pace, Progress

Holds = Callable[[Any], bool]


def resumable(saved: Saved) -> bool:
    """True, for `load_newest`, which is to find a checkpoint to go on from.

    Raises Damaged for a state that no run writes, so that the checkpoint before is taken, and DataError for one that a later
    version wrote: nothing of it is damaged. What an earlier version did not write has its default.
    """
    progress, pace, clock = (_table(saved.state, name) for name in ("progress", "pace", "clock"))
    for part, cls in ((progress, Progress), (pace, Pace)):
        if unknown := sorted(part.keys() - {field.name for field in fields(cls)}):
            raise DataError(
                f"the checkpoint {saved.folder.name} is of another version of gpuday: it has {unknown[0][:40]!r}",
                where=str(saved.folder),
                fix="go on with the version that environment.json names, or begin another run with --out",
            )
    _require(_NEEDED <= progress.keys())
    _check(progress, _PROGRESS)
    _check(pace, {field.name: _is_amount for field in fields(Pace)})
    _require(clock.keys() >= _CLOCK_NEEDED)
    _check(clock, _CLOCK)
    return True


def is_final(saved: Saved) -> bool:
    """Whether a checkpoint holds the weights of a finished run."""
    progress = saved.state.get("progress")
    return isinstance(progress, dict) and isinstance(progress.get("final"), dict)


def _table(state: dict[str, Any], name: str) -> dict[str, Any]:
    found = state.get(name)
    if not isinstance(found, dict):
        raise Damaged("foreign-state")
    return found


def _require(holds: bool) -> None:
    if not holds:
        raise Damaged("foreign-state")


def _check(values: Mapping[str, Any], expected: Mapping[str, Holds]) -> None:
    for name, holds in expected.items():
        _require(name not in values or holds(values[name]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _is_amount(value: Any) -> bool:
    return _is_number(value) and bool(value >= 0)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _are_amounts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_amount, value.values()))


def _is_answer(value: Any) -> bool:
    """What a look at the held-out text found, or that there was none."""
    if value is None:
        return True
    if not isinstance(value, dict) or not isinstance(value.get("by_source"), dict):
        return False
    numbers = (value.get("nats_per_token"), value.get("rows"), value.get("masked"), *value["by_source"].values())
    return all(map(_is_amount, numbers))


_NEEDED = {"step", "position", "skipped", "final"}
_PROGRESS: dict[str, Holds] = {
    "step": is_count,
    "position": is_count,
    "tokens": is_count,
    "flops": _is_amount,
    "skipped": is_count,
    "branch": is_count,
    "losses": _are_numbers,
    "norms": _are_numbers,
    "noise_signal": _is_number,
    "noise_trace": _is_amount,
    "rolled_back_to": lambda value: value == -1 or is_count(value),
    "microbatch": lambda value: is_count(value) and value > 0,
    "compilations": is_count,
    "before": _is_answer,
    "final": _is_answer,
}
_CLOCK_NEEDED = {"ledger", "counts", "reserve_seconds"}
_CLOCK: dict[str, Holds] = {
    "ledger": _are_amounts,
    "counts": lambda value: _are_amounts(value) and value.keys() == {"tokens", "steps", "flops"},
    "reserve_seconds": _is_amount,
    "furthest": lambda value: _is_amount(value) and value <= 1,
}
