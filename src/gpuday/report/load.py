"""Reads a run directory into one frozen value. Files that are not there yet are fine; damaged ones are refused."""

import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpuday.core import journal
from gpuday.core.errors import DataError
from gpuday.core.journal import Note, Start, Step, Validation
from gpuday.core.rundir import RunDir, read_json
from gpuday.report.series import smooth, thin

State = Literal["finished", "running", "interrupted", "not started"]
POINTS = 2000  # more are not visible on a screen and make the page slow to open
HALF_LIVES = 120  # of the smoothing, in the whole curve
SUMMARY_TABLES = ("clock", "train", "model", "heldout", "scores", "export", "compliance")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One file of `scores/<suite>/<task>/<seed>.json`."""

    suite: str
    task: str
    seed: str
    values: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that a run directory says about its run."""

    root: Path
    name: str
    state: State
    recipe: dict[str, Any]
    environments: tuple[dict[str, Any], ...]
    """What the run ran on, newest last; an attempt on the same machine by the same versions adds none."""
    fit: dict[str, Any]
    summary: dict[str, Any]
    used_seconds: float | None
    """Seconds on the clock: the summary's, else the heartbeat's, else the last step's."""
    attempts: tuple[tuple[int, Start], ...]
    steps: tuple[Step, ...]
    """Surviving steps, thinned to at most `POINTS`; the first and the last are always among them."""
    smoothed: tuple[float, ...]
    """For each of `steps`, the mean loss around it, computed before thinning."""
    half_life: int
    """Half-life of that mean, in steps."""
    validations: tuple[Validation, ...]
    notes: tuple[Note, ...]
    steps_kept: int
    steps_made: int
    """Steps of all attempts, those that a resume redid included."""
    scores: tuple[Score, ...]
    samples: tuple[dict[str, Any], ...]

    def section(self, name: str) -> dict[str, Any]:
        """A table of the summary, empty where the run has not written it."""
        return self.summary.get(name) or {}


def is_run(folder: Path) -> bool:
    """Whether a folder holds any of the files that make it a run."""
    paths = RunDir(folder)
    return any(p.is_file() for p in (paths.recipe, paths.summary, paths.journal))


def load_run(run: Path, *, points: int = POINTS) -> RunRecord:
    """The record of a run. Raises DataError for a folder that is no run, and for a file that is damaged."""
    if not is_run(run):
        raise DataError(f"{run} is not a run directory", fix="give a folder that holds recipe.json, such as runs/NAME")
    paths = RunDir(run)
    summary = _load_summary(paths.summary)
    rows, kept = list(journal.read(paths.journal)), journal.surviving(paths.journal)
    steps = [r for r in kept if isinstance(r, Step)]
    validations = [r for r in kept if isinstance(r, Validation)]
    half_life = max(1, round(len(steps) / HALF_LIVES))
    # An update that was left out has no part in the mean: a loss far out of line would bend the curve around it.
    smoothed = smooth([float("nan") if s.skipped else s.loss for s in steps], half_life=half_life)
    return RunRecord(
        root=run,
        name=run.resolve().name,
        state=_state(paths, rows, validations),
        recipe=_load_table(paths.recipe),
        environments=_load_environments(paths.environment),
        fit=_load_table(paths.fit),
        summary=summary,
        used_seconds=_used_seconds(paths, summary, steps),
        attempts=tuple((a, r) for a, r in rows if isinstance(r, Start)),
        steps=tuple(thin(steps, points)),
        smoothed=tuple(thin(smoothed, points)),
        half_life=half_life,
        validations=tuple(thin(validations, points)),
        notes=(*_damage(paths.journal), *(r for r in kept if isinstance(r, Note))),
        steps_kept=len(steps),
        steps_made=sum(isinstance(r, Step) for _, r in rows),
        scores=_load_scores(paths.scores),
        samples=tuple(summary.get("samples") or ()),
    )


def _load_table(path: Path) -> dict[str, Any]:
    value = read_json(path) if path.exists() else {}
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no table", fix="restore the file, or remove it and run the command again")
    return value


def _load_environments(path: Path) -> tuple[dict[str, Any], ...]:
    table = _load_table(path)
    attempts = table.get("attempts", [table] if table else [])
    if not isinstance(attempts, list) or not all(isinstance(a, dict) for a in attempts):
        raise DataError(f"{path} is damaged: attempts has the wrong shape", fix="remove it and run the command again")
    return tuple(attempts)


def _load_summary(path: Path) -> dict[str, Any]:
    summary = _load_table(path)
    wrong = [k for k in SUMMARY_TABLES if not isinstance(summary.get(k) or {}, dict)]
    samples = summary.get("samples") or []
    if not isinstance(samples, list) or not all(isinstance(s, dict) for s in samples):
        wrong.append("samples")
    if wrong:
        raise DataError(f"{path} is damaged: {', '.join(wrong)} has the wrong shape", fix="run the command again")
    return summary


def _damage(path: Path) -> Iterator[Note]:
    """That lines are missing from the record, where some are: a kill in the middle of a write leaves one."""
    if lines := journal.unreadable(path):
        yield Note(step=0, message=f"unreadable lines left out of {path.name}: {lines:,} (torn by a kill, or damaged)")


def _load_scores(folder: Path) -> tuple[Score, ...]:
    return tuple(
        Score(suite=path.parent.parent.name, task=path.parent.name, seed=path.stem, values=_load_table(path))
        for path in sorted(folder.glob("*/*/*.json"))
    )


def _used_seconds(paths: RunDir, summary: dict[str, Any], steps: list[Step]) -> float | None:
    heartbeat = _load_table(paths.heartbeat)
    for value in ((summary.get("clock") or {}).get("used_seconds"), heartbeat.get("used_seconds")):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return steps[-1].seconds if steps else None


def _state(paths: RunDir, rows: list[tuple[int, Any]], validations: list[Validation]) -> State:
    if any(v.final for v in validations):
        return "finished"
    if _is_held(paths.root / ".lock"):
        return "running"
    return "interrupted" if rows else "not started"


def _is_held(lock: Path) -> bool:
    """Whether a process holds the run. A shared lock is asked for and given back at once, so that none is kept out."""
    if not lock.exists():
        return False
    with open(lock, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
