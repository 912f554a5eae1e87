"""A task's rows from the Hugging Face hub, through the `datasets` library (extra `[hub]`), with `--task-data hub`."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

from gpuday.core.errors import DataError, EnvironmentFault
from gpuday.evaluate.tasks.files import with_classes
from gpuday.evaluate.tasks.parsing import Collected, Columns, gather
from gpuday.evaluate.tasks.rows import TaskData
from gpuday.evaluate.tasks.task import Record, Task

HUB = Path("hub")
UNLABELLED = -1
# The names under which the copy of GLUE holds its texts.
_TEXTS = (
    ("sentence",), ("sentence1", "sentence2"), ("question1", "question2"), ("premise", "hypothesis"),
    ("question", "sentence"),
)  # fmt: skip


def is_hub(folder: Path | None) -> bool:
    """Whether `--task-data` names the hub: by the word `hub`, unless a folder here is called so."""
    return folder == HUB and not HUB.is_dir()


def require() -> Any:
    """The library. Raises EnvironmentFault where it is not installed."""
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise EnvironmentFault(
            "tasks from the hub need the library 'datasets'",
            where="--task-data hub",
            fix="pip install 'gpuday[hub]', or name a folder with the tasks' files",
        ) from error


def read_hub(task: Task, *, test: bool = False) -> TaskData:
    """As `files.read_task`; a companion whose rows are not labelled there is left out. Raises DataError for what the hub does
    not give or gives in another form."""
    if not task.hub:
        raise DataError(f"{task.name} is not on the hub", fix="name a folder with its files: --task-data DIR")
    hasher = xxhash.xxh3_128()
    splits = [_split(task, _numbered(task, split), hasher) for split in ("train", _dev(task))]
    task = with_classes(task, splits)
    companions, hashes = {}, {}
    for companion in task.companions:
        digest = xxhash.xxh3_128()
        rows = list(_numbered(companion, _dev(companion)))
        if any(record.get("label") != UNLABELLED for _, record in rows):
            companions[companion.name] = _split(companion, iter(rows), digest).rows(companion.classes)
            hashes[companion.name] = digest.hexdigest()
    asked = [t for t in (task, *task.companions) if t.test_file] if test else []
    train, dev = (part.rows(task.classes) for part in splits)
    return TaskData(
        task=task,
        train=train,
        dev=dev,
        companions=companions,
        companion_hashes=hashes,
        test={t.name: _split(t, _numbered(t, _test(t)), None).rows(t.classes) for t in asked},
        data_hash=hasher.hexdigest(),
        train_rows_available=len(train),
    )


def _split(task: Task, rows: Iterator[tuple[int, Record]], hasher: Any) -> Collected:
    """Checked rows of a split; without a hasher those of a test set, whose labels are not read."""

    def hashed() -> Iterator[tuple[int, Record]]:
        for number, record in rows:
            if hasher is not None:
                hasher.update(json.dumps(record, sort_keys=True, default=str).encode())
            yield number, _named(task, record)

    columns = Columns(text_b="text_b" if task.pair else None, label=None if hasher is None else "label")
    return gather(task, columns, hashed(), task.hub, "row")


def _numbered(task: Task, split: str) -> Iterator[tuple[int, Record]]:
    name, config, *_ = [*task.hub.split(":"), ""]
    datasets = require()
    try:
        rows = datasets.load_dataset(name, config or None, split=split)
    except (OSError, ValueError, RuntimeError) as error:  # the library's own errors derive from these
        raise DataError(
            f"cannot load {split} of {task.hub}: {error}"[:2000],
            where="--task-data hub",
            fix=f"{_cure(error)}, or name a folder with the task's files: --task-data DIR",
        ) from error
    tags = getattr(getattr(rows.features.get("ner_tags"), "feature", None), "names", None)
    for number, row in enumerate(rows):
        record = dict(row)
        if tags:
            record["ner_tags"] = [tags[i] for i in record["ner_tags"]]
        yield number, record


def _cure(error: Exception) -> str:
    if "Dataset scripts" in str(error):  # a RuntimeError of version 4 and later
        return "this version of datasets loads no data set that is a script: install an older one"
    if isinstance(error, FileNotFoundError):
        return "the hub has no such public data set"
    return "check the network" if isinstance(error, OSError) else "the copy on the hub has another form"


def _named(task: Task, record: Record) -> Record:
    """The record with flat names for its texts, where the task has no recast of its own."""
    if task.recast is not None:
        return record
    for names in _TEXTS:
        if len(names) == 1 + task.pair and all(name in record for name in names):
            return {**record, **dict(zip(("text_a", "text_b"), (record[n] for n in names), strict=False))}
    return record


def _dev(task: Task) -> str:
    return ([*task.hub.split(":"), "", ""])[2] or "validation"


def _test(task: Task) -> str:
    return _dev(task).replace("validation", "test")
