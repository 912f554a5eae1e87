"""What the head of a task of whole rows reads: position 0 or the mean of all tokens. The subject says which, unless one is
asked for.

A folder says it in the settings of sentence-transformers (Reimers & Gurevych, arXiv 1908.10084), else in its config, as
ModernBERT's does; one that says nothing was made to be read at position 0, as BERT is. A run is.
"""

from pathlib import Path
from typing import Any

from gpuday.core.errors import DataError, UsageError
from gpuday.core.rundir import read_json
from gpuday.evaluate.model_folder import CONFIG, MODULES, module_folder
from gpuday.evaluate.protocols import Protocol
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.tasks.task import Task
from gpuday.models.downstream import Pooling

USUAL = "1_Pooling"  # folder of the settings where no list of modules says another
PREFIX = "pooling_mode_"  # of the switches in them
# As the libraries spell the two.
NAMES: dict[str, Pooling] = {
    **dict.fromkeys(("cls", "cls_token", "bos"), "first"),
    **dict.fromkeys(("mean", "mean_tokens"), "mean"),
}


def is_pooled(task: Task) -> bool:
    """Whether the task's head reads a row as a whole; those of taggings and spans read every token."""
    return task.kind not in ("tagging", "span")


def pooling_for(subject: Subject, task: Task, protocol: Protocol) -> Pooling | None:
    """What the head of a task reads; None where it reads every token. Raises UsageError where the subject's own pooling is
    none of the two and neither is asked for."""
    if not is_pooled(task):
        return None
    if (found := protocol.pooling or subject.pooling) is None:
        raise UsageError(
            f"{subject.name} reads its rows in a way that is not here: {subject.no_pooling}",
            where="--pooling",
            fix="say what is read instead: --pooling first, or --pooling mean",
        )
    return found


def pooling_of_folder(folder: Path, settings: Any) -> tuple[Pooling | None, str]:
    """(the pooling, "") of the folder of a transformer with this config, or (None, why). Raises DataError for settings of
    sentence-transformers, in the folder or around it, that are damaged."""
    for place in (folder, folder.parent):
        if (path := _settings_of(place, folder)) is not None:
            return _one(_modes(path), f"{path.parent.name}/{path.name}")
    said = getattr(settings, "classifier_pooling", None)
    return ("first", "") if said is None else _one([str(said)], "classifier_pooling of its config")


def _one(names: list[str], where: str) -> tuple[Pooling | None, str]:
    if len(names) == 1 and names[0] in NAMES:
        return NAMES[names[0]], ""
    return None, f"{where} says {' and '.join(names) or 'nothing'}"


def _settings_of(place: Path, folder: Path) -> Path | None:
    """The settings of the pooling behind the transformer in `folder`, where they lie in `place`."""
    inside: Path | None = place / USUAL
    if (place / MODULES).is_file():
        ours = module_folder(place, "Transformer") == folder.resolve()  # else it lists another model's
        inside = module_folder(place, "Pooling") if ours else None
    return inside / CONFIG if inside is not None and (inside / CONFIG).is_file() else None


def _modes(path: Path) -> list[str]:
    """All that are switched on; their vectors would be laid side by side."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise DataError(f"{path} does not hold settings", fix="fetch the folder again")
    said = values.get("pooling_mode")
    if said is not None:
        return [str(name) for name in (said if isinstance(said, list) else [said])]
    switches = {f"{PREFIX}mean_tokens": True, **values}  # which is on unless it is said to be off
    return [name.removeprefix(PREFIX) for name, on in switches.items() if name.startswith(PREFIX) and on]
