"""A run's record after a disk damaged a file of it: what the checkpoints or the command still know is written again.

`recipe.json` and `fit.json` stand in every checkpoint too, which has checksums; `summary.json` and `environment.json` are
made again by whoever writes them. Nothing is thrown away: what was damaged is set aside.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gpuday.core import config
from gpuday.core.errors import DataError, GpudayError
from gpuday.core.rundir import RunDir, read_json, set_aside, write_json
from gpuday.recipe import Recipe
from gpuday.train.checkpoint import load_newest
from gpuday.train.fit import Fit

Warn = Callable[[str], None]


def identity(recipe: Recipe, fit: Fit) -> dict[str, Any]:
    """What each checkpoint says of the run that it belongs to."""
    return {"recipe": config.fingerprint(recipe), "fit": config.to_dict(fit)}


def mend(run: RunDir, recipe: Recipe, warn: Warn) -> None:
    """Mend the record of a run that is to go on with this recipe; the caller holds the run's lock.

    Raises DataError when recipe.json is gone or damaged and the checkpoints are those of another recipe.
    """
    for path, holds in ((run.summary, _is_table), (run.environment, _has_attempts)):
        if path.exists() and not _reads(path, holds):
            warn(f"{path.name} {_clear(path)}; made again")
    began = run.checkpoints.exists()
    wants_recipe = (began or run.recipe.exists()) and not _reads(run.recipe, partial(config.from_dict, Recipe))
    wants_fit = (began or run.fit.exists()) and not _reads(run.fit, partial(config.from_dict, Fit))
    if not wants_recipe and not wants_fit:
        return
    saved = load_newest(run.checkpoints, warn=warn)
    state = saved.state if saved else {}
    if wants_recipe:
        _mend_recipe(run, recipe, state.get("recipe"), warn)
    if wants_fit:
        _mend_fit(run, state.get("fit"), warn)


def _mend_recipe(run: RunDir, recipe: Recipe, began: Any, warn: Warn) -> None:
    if began is not None and began != config.fingerprint(recipe):
        raise DataError(
            f"{run.recipe.name} is gone or damaged, and the checkpoints are those of another recipe than is asked for",
            where=str(run.recipe),
            fix="give the command that began the run, with the same flags; or another --out",
        )
    fault = _clear(run.recipe)
    write_json(run.recipe, config.to_dict(recipe))
    warn(f"{run.recipe.name} {fault}; written again from this command")


def _mend_fit(run: RunDir, kept: Any, warn: Warn) -> None:
    """The fit of the checkpoint; without one nothing was trained with it, and it is measured again."""
    fault = _clear(run.fit)
    if kept is not None:
        write_json(run.fit, kept)
    warn(f"{run.fit.name} {fault}; {'taken from the checkpoint' if kept is not None else 'measured again'}")


def _clear(path: Path) -> str:
    """Set aside what cannot be read, and say what became of it."""
    return f"is damaged, set aside as {set_aside(path, 'unreadable').name}" if path.exists() else "is gone"


def _reads(path: Path, holds: Callable[[Any], Any]) -> bool:
    """Whether a file is there, is JSON, and holds what it should: `holds` is false, or raises, where it does not."""
    try:
        return bool(holds(read_json(path)))
    except (GpudayError, TypeError, ValueError, KeyError):
        return False


def _is_table(found: Any) -> bool:
    return isinstance(found, dict)


def _has_attempts(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get("attempts"), list)
