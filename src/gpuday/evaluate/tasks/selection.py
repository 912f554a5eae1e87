"""From the command line's `--tasks` and `--task-data` to tasks, and from a task to its rows."""

from dataclasses import dataclass
from pathlib import Path

from gpuday.core.errors import UsageError, nearest
from gpuday.evaluate.tasks import pydocs
from gpuday.evaluate.tasks.glue import GLUE
from gpuday.evaluate.tasks.pydocs import PYDOCS
from gpuday.evaluate.tasks.rows import TaskData, cap_rows, find_file, find_folder, read_task
from gpuday.evaluate.tasks.task import Task

BY_NAME = {task.name.lower(): task for task in (*GLUE, PYDOCS)}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Tasks to run, and (name, reason) of those of a suite that cannot be."""

    tasks: tuple[Task, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


def suite(name: str, folder: Path | None) -> Selection:
    """The suite's tasks whose train and dev files are in the folder. Raises UsageError where none is."""
    if name != "glue":
        raise UsageError(f"no suite is called {name!r}", where="--tasks", fix="known: glue, pydocs")
    if folder is None:
        raise UsageError("the tasks of glue need files", where="--tasks", fix="add --task-data DIR, with DIR/CoLA, ...")
    found, left_out = [], []
    for task in GLUE:
        if reason := _missing(task, folder):
            left_out.append((task.name, reason))
        else:
            found.append(task)
    if not found:
        raise UsageError(f"{folder} holds no task of glue", where="--task-data", fix="put CoLA/train.jsonl, ... there")
    return Selection(tasks=tuple(found), left_out=tuple(left_out))


def parse_tasks(text: str, folder: Path | None = None) -> Selection:
    """`glue`, `pydocs`, `none`, or names with commas (`cola,sst-2`), in whatever case and with or without the hyphen; a
    task is taken once."""
    tasks: dict[str, Task] = {}
    left_out: tuple[tuple[str, str], ...] = ()
    words = [w.strip().lower() for w in text.split(",") if w.strip()]
    if words == ["none"]:
        return Selection()
    if "none" in words:
        raise UsageError("none stands beside other tasks", where="--tasks", fix="write none alone, or leave it out")
    written = {name.replace("-", ""): name for name in BY_NAME}
    for word in (written.get(word.replace("-", ""), word) for word in words):
        if word == "glue":
            whole = suite("glue", folder)
            tasks.update({t.name: t for t in whole.tasks})
            left_out = whole.left_out
        elif word not in BY_NAME:
            known = ["glue", "none", *BY_NAME]
            several = ",".join(word.split())
            fix = f"write {several}" if all(w in known for w in word.split()) else nearest(word, known)
            raise UsageError(f"no task is called {word!r}", where="--tasks", fix=fix)
        elif BY_NAME[word] is not PYDOCS and folder is None:
            raise UsageError(f"{word} needs its files", where="--tasks", fix="add --task-data DIR")
        else:
            tasks[BY_NAME[word].name] = BY_NAME[word]
    if not tasks:
        raise UsageError("no task is named", where="--tasks", fix="write glue, pydocs, none or names with commas")
    return Selection(tasks=tuple(tasks.values()), left_out=left_out)


def load(task: Task, folder: Path | None, *, train_rows: int | None = None) -> TaskData:
    """The rows of a task, its train set capped. Raises DataError for files that cannot be used."""
    if task.suite == PYDOCS.suite:
        return cap_rows(pydocs.load(), train_rows)
    assert folder is not None, "parse_tasks asks for a folder"
    return cap_rows(read_task(task, folder), train_rows)


def _missing(task: Task, folder: Path) -> str:
    found = find_folder(task, folder)
    if found is None:
        return "no folder"
    absent = [stem for stem in (task.train_file, task.dev_file) if find_file(found, stem) is None]
    return f"no {absent[0]} file" if absent else ""
