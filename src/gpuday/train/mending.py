"""A run's record after a disk damaged a file of it: what the checkpoints or the command still know is written again.

`recipe.json` and `fit.json` stand in every checkpoint too, which has checksums; `summary.json` and `environment.json` are
made again by whoever writes them. What the data was stands there as well, for who makes it again. Nothing is thrown away:
what was damaged is set aside.
"""

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gpuday.core import config
from gpuday.core.errors import DataError, EnvironmentFault, GpudayError, UsageError
from gpuday.core.rundir import RunDir, read_json, set_aside, write_json
from gpuday.data.prepared import INDEXES, PreparedData
from gpuday.recipe import Recipe
from gpuday.train.checkpoint import load_newest, newest_state
from gpuday.train.fit import Fit
from gpuday.train.resumable import resumable
from gpuday.train.saved_folder import NO_FILE

Warn = Callable[[str], None]


def identity(recipe: Recipe, fit: Fit, data: PreparedData) -> dict[str, Any]:
    """What each checkpoint says of the run that it belongs to."""
    indexes = {name: data.manifest["files"][name] for name in INDEXES}
    return {"recipe": config.fingerprint(recipe), "fit": config.to_dict(fit), "data": indexes}


def data_of(state: dict[str, Any]) -> dict[str, str] | None:
    """Checksums of the indexes that a checkpoint was trained on, by name; None in one of an earlier version."""
    found = state.get("data")
    return found if isinstance(found, dict) and INDEXES[0] in found else None


def refuse_other_data(state: dict[str, Any], data: PreparedData) -> None:
    """Raise DataError where a checkpoint was trained on other data than is given: rows of both would be mixed."""
    began = data_of(state)
    if began is not None and any(data.manifest["files"].get(name) != checksum for name, checksum in began.items()):
        raise DataError(
            "the data is not what the checkpoints were trained on",
            where=str(data.folder),
            fix="restore the run's folder data, or begin another run with --out; the checkpoints are intact",
        )


def mend(run: RunDir, recipe: Recipe, warn: Warn) -> None:
    """Mend the record of a run that is to go on with this recipe; the caller holds the run's lock.

    Raises DataError when the checkpoints are those of another recipe; UsageError when recipe.json is whole, but not of this
    version, and no checkpoint says that the run is this recipe's; EnvironmentFault where the system refuses to read.
    """
    for path, holds in ((run.summary, _is_table), (run.environment, _has_attempts)):
        if path.exists() and not _reads(path, holds):
            warn(f"{path.name} {_clear(path)}; made again")
    began = run.checkpoints.exists()
    wants_recipe = (began or run.recipe.exists()) and not _reads(run.recipe, partial(config.from_dict, Recipe))
    wants_fit = (began or run.fit.exists()) and not _reads(run.fit, partial(config.from_dict, Fit))
    if wants_recipe or wants_fit:
        saved = load_newest(run.checkpoints, warn=warn, fits=resumable)
        state = saved.state if saved else {}
    else:
        state = newest_state(run.checkpoints)
    if wants_recipe:
        _mend_recipe(run, recipe, state.get("recipe"), warn)
    elif run.recipe.exists() and state.get("recipe") not in (
        None,
        config.fingerprint(recipe),
        config.fingerprint(read_json(run.recipe)),  # as an earlier version wrote it, without a field that is new
    ):
        raise DataError(
            "the checkpoints are those of another recipe than is asked for",
            where=str(run.checkpoints),
            fix="give the command that began the run, with the same flags; or another --out",
        )
    if wants_fit:
        _mend_fit(run, state.get("fit"), "damaged", warn)
    elif run.fit.exists() and _is_another(state.get("fit"), read_json(run.fit)):
        # A flipped digit is valid JSON, and another batch.
        _mend_fit(run, state["fit"], "not that of the checkpoints", warn)


def _mend_recipe(run: RunDir, recipe: Recipe, began: Any, warn: Warn) -> None:
    if began != config.fingerprint(recipe) and _reads(run.recipe, _is_table):
        # It is a table that holds no recipe of this version: this raises, and names the key.
        config.from_dict(Recipe, read_json(run.recipe), where=str(run.recipe))
    if began is not None and began != config.fingerprint(recipe):
        raise DataError(
            f"{run.recipe.name} is gone or damaged, and the checkpoints are those of another recipe than is asked for",
            where=str(run.recipe),
            fix="give the command that began the run, with the same flags; or another --out",
        )
    fault = _clear(run.recipe)
    write_json(run.recipe, config.to_dict(recipe))
    warn(f"{run.recipe.name} {fault}; written again from this command")


def _mend_fit(run: RunDir, kept: Any, what: str, warn: Warn) -> None:
    """The fit of the checkpoint; without one nothing was trained with it, and it is measured again."""
    if kept is not None and not _holds(partial(config.from_dict, Fit), kept):
        raise DataError(
            f"{run.fit.name} is gone or damaged, and what the checkpoint has of it is of another version",
            where=str(run.fit),
            fix="restore the file, or begin another run with --out; with another fit the batch would change",
        )
    fault = _clear(run.fit, what)
    if kept is not None:
        write_json(run.fit, kept)
    warn(f"{run.fit.name} {fault}; {'taken from the checkpoint' if kept is not None else 'measured again'}")


def _clear(path: Path, what: str = "damaged") -> str:
    """Set aside what cannot be used, and say what became of it."""
    reason = "unreadable" if what == "damaged" else "another"
    return f"is {what}, set aside as {set_aside(path, reason).name}" if path.exists() else "is gone"


def _is_another(kept: Any, found: Any) -> bool:
    """Whether a checkpoint has a fit of this version which says something else."""
    try:
        return kept is not None and config.from_dict(Fit, kept) != config.from_dict(Fit, found)
    except UsageError:
        return False


def _reads(path: Path, holds: Callable[[Any], Any]) -> bool:
    """Whether a file is there, is JSON, and holds what it should: `holds` is false, or raises, where it does not.

    Raises EnvironmentFault where the system does not let us look.
    """
    try:
        found = read_json(path)
    except DataError as error:
        fault = error.__cause__
        if isinstance(fault, OSError) and fault.errno not in (errno.ENOENT, *NO_FILE):
            raise EnvironmentFault(
                error.what,
                where=str(path),
                fix="nothing was changed: mend what refuses it, and give the same command again",
            ) from error
        return False
    return _holds(holds, found)


def _holds(holds: Callable[[Any], Any], found: Any) -> bool:
    try:
        return bool(holds(found))
    except (GpudayError, TypeError, ValueError, KeyError):
        return False


def _is_table(found: Any) -> bool:
    return isinstance(found, dict)


def _has_attempts(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get("attempts"), list)
