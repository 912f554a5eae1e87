"""A task's files below the folder of `--task-data`: found, hashed, read and checked whole before anything is trained.

A task lies in `DIR/<task>` or `DIR/<suite>/<task>`, whatever the case of the letters; `<task>-partial` says that it holds
a part of the official rows.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import xxhash

from gpuday.core.errors import DataError
from gpuday.evaluate.tasks.parsing import Collected, collect, layout
from gpuday.evaluate.tasks.rows import Rows, TaskData
from gpuday.evaluate.tasks.task import Task

Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, ...] = ("train", "dev", "test")
PARTIAL = "-partial"
_SHOWN = 12  # folders in an error
_NEAR = 100  # folders that are looked into for an error
_FLAT = (".jsonl", ".jsonl.zst")
_OFFICIAL = {"choice": (".csv", ""), "tagging": (".conll", ".txt"), "span": (".json",)}  # "" is a folder of files


def find_folder(task: Task, root: Path) -> Path | None:
    """The folder of a task's files; None where there is none. Raises DataError where `root` is no folder."""
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder", where="--task-data", fix="name the folder that holds <Task>/train.jsonl"
        )
    tops = [p for p in _folders(root) if p.name.lower() == task.suite]
    names = [n.lower() for n in (task.folder, task.name) if n]
    for top in (*tops, root):
        folders = {p.name.lower(): p for p in _folders(top)}
        for name in names:
            if found := folders.get(name) or folders.get(name + PARTIAL):
                return found
    return None


def meant(tasks: Iterable[Task], root: Path) -> str:
    """For the fix of an error: the folder near `root` that holds one of the tasks, else what is looked for and what is there."""
    tasks, whole = tuple(tasks), root.resolve()
    for folder in (whole.parent, *_folders(whole)[:_NEAR]):
        with contextlib.suppress(OSError):  # a folder that may not be read has nothing to suggest
            if found := [task.name for task in tasks if find_folder(task, folder)]:
                return f"write --task-data {folder}, which holds {', '.join(found)}"
    name = tasks[0].folder or tasks[0].name
    there = [p.name for p in _folders(root)]
    more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    these = f"are the folders {', '.join(there[:_SHOWN])}{more}" if there else "is no folder"
    return f"name the folder that holds {name}/ or {tasks[0].suite}/{name}/; in {root} there {these}"


def find_file(task: Task, folder: Path, part: Part) -> Path | None:
    """The file of a part: its name with the first ending that is there, else the name under which it is published."""
    stem = _stem(task, part)
    for ending in (*_FLAT, *_OFFICIAL.get(task.kind, (".tsv",))):
        path = folder / (stem + ending)
        if stem and (path.is_file() if ending else path.is_dir()):
            return path
    published = dict(zip(PARTS, task.official, strict=False)).get(part)
    return folder / published if published and (folder / published).is_file() else None


def missing(task: Task, root: Path) -> str:
    """Why a task cannot be read from a folder; empty where its files are there."""
    folder = find_folder(task, root)
    if folder is None:
        return "no folder"
    absent = [part for part in PARTS[:2] if find_file(task, folder, part) is None]
    return f"no {_stem(task, absent[0])} file" if absent else ""


def read_task(task: Task, root: Path, *, test: bool = False) -> TaskData:
    """Train and dev rows of a task below `root`, those of its companions that are there, and with `test` the rows to
    answer. Raises DataError naming the file, the row and the fix for what is wrong."""
    folder = find_folder(task, root)
    if folder is None:
        fix = f"{meant([task], root)}; its files lie in it {layout(task)}"
        raise DataError(f"{task.name} is not in {root}", where="--task-data", fix=fix)
    hasher, splits = xxhash.xxh3_128(), []
    for part in PARTS[:2]:
        path = find_file(task, folder, part)
        if path is None:
            raise DataError(f"{task.name} has no {_stem(task, part)} file", where=str(folder), fix=layout(task))
        content = _content(path)
        hasher.update(content)
        splits.append(collect(task, path, content))
    train, dev = splits
    task = with_classes(task, splits)
    read = {c.name: _part(c, root, "dev") for c in task.companions}
    there = {name: found for name, found in read.items() if found is not None}
    asked = {t.name: _part(t, root, "test") for t in (task, *task.companions)} if test else {}
    return TaskData(
        task=task,
        train=train.rows(task.classes),
        dev=dev.rows(task.classes),
        companions={name: rows for name, (rows, _) in there.items()},
        companion_hashes={name: digest for name, (_, digest) in there.items()},
        test={name: found[0] for name, found in asked.items() if found is not None},
        data_hash=hasher.hexdigest(),
        train_rows_available=len(train),
        partial=folder.name.lower().endswith(PARTIAL),
    )


def with_classes(task: Task, parts: Iterable[Collected]) -> Task:
    """The task; of a tagging with the tags that occur as its classes, in the order of the alphabet."""
    if task.kind != "tagging" or task.classes:
        return task
    return replace(task, classes=tuple(sorted(set().union(*(part.tags() for part in parts)))))


def _part(task: Task, root: Path, part: Part) -> tuple[Rows, str] | None:
    """(rows, hash) of a companion's dev file or of a test file; None where there is none."""
    folder = find_folder(task, root)
    path = None if folder is None else find_file(task, folder, part)
    if path is None:
        return None
    content = _content(path)
    rows = collect(task, path, content, labelled=part != "test").rows(task.classes)
    return rows, xxhash.xxh3_128_hexdigest(content)


def _content(path: Path) -> bytes:
    """The bytes of a file; of a folder of JSON files one line for each, in the order of their paths."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*.txt") if p.is_file())
        return b"".join(b" ".join(file.read_bytes().splitlines()) + b"\n" for file in files)
    return path.read_bytes()


def _folders(root: Path) -> list[Path]:
    return [p for p in sorted(root.iterdir()) if p.is_dir()]


def _stem(task: Task, part: Part) -> str:
    return {"train": task.train_file, "dev": task.dev_file, "test": task.test_file}[part]
