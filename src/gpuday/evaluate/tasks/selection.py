"""From the command line's `--tasks` and `--task-data` to tasks, and from a task to its rows."""

from dataclasses import dataclass
from pathlib import Path

from gpuday.core.errors import UsageError, nearest
from gpuday.evaluate.tasks import hub, pydocs
from gpuday.evaluate.tasks.files import find_folder, meant, missing, read_task
from gpuday.evaluate.tasks.glue import GLUE
from gpuday.evaluate.tasks.pydocs import PYDOCS
from gpuday.evaluate.tasks.rows import TaskData, cap_rows
from gpuday.evaluate.tasks.single import SINGLE
from gpuday.evaluate.tasks.superglue import SUPERGLUE
from gpuday.evaluate.tasks.task import Task

SUITES = {"glue": GLUE, "superglue": SUPERGLUE}
BY_NAME = {task.name.lower(): task for task in (*GLUE, PYDOCS, *SUPERGLUE, *SINGLE)}
_FOLDER = "add --task-data DIR, or --task-data hub to read from the Hugging Face hub"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Tasks to run, and (name, reason) of those of a suite that cannot be."""

    tasks: tuple[Task, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


def suite(name: str, folder: Path | None) -> Selection:
    """The suite's tasks whose train and dev files are in the folder; of the hub all. Raises UsageError where none is."""
    if name not in SUITES:
        raise UsageError(f"no suite is called {name!r}", where="--tasks", fix=nearest(name, [*SUITES, PYDOCS.name]))
    tasks = SUITES[name]
    if folder is None:
        raise UsageError(
            f"the tasks of {name} need files",
            where="--tasks",
            fix=f"add --task-data DIR, with DIR/{tasks[0].name}, ...",
        )
    if hub.is_hub(folder):
        hub.require()
        return Selection(tasks=tasks)
    reasons = {task.name: missing(task, folder) for task in tasks}
    found = tuple(task for task in tasks if not reasons[task.name])
    if not found:
        raise UsageError(f"{folder} holds no task of {name}", where="--task-data", fix=_instead(tasks, folder, reasons))
    return Selection(tasks=found, left_out=tuple((n, reason) for n, reason in reasons.items() if reason))


def parse_tasks(text: str, folder: Path | None = None) -> Selection:
    """`glue`, `superglue`, `pydocs`, `none`, or names with commas (`cola,sst-2`), in whatever case and with or without the
    hyphen; a task is taken once."""
    tasks: dict[str, Task] = {}
    left_out: dict[str, str] = {}
    words = [w.strip().lower() for w in text.split(",") if w.strip()]
    if words == ["none"]:
        return Selection()
    if "none" in words:
        raise UsageError("none stands beside other tasks", where="--tasks", fix="write none alone, or leave it out")
    written = {name.replace("-", ""): name for name in BY_NAME}
    for word in (written.get(word.replace("-", ""), word) for word in words):
        if word in SUITES:
            whole = suite(word, folder)
            tasks.update({t.name: t for t in whole.tasks})
            left_out.update(whole.left_out)
        elif word not in BY_NAME:
            raise UsageError(f"no task is called {word!r}", where="--tasks", fix=_meant(word))
        elif BY_NAME[word] is not PYDOCS and folder is None:
            raise UsageError(f"{word} needs its files", where="--tasks", fix=_FOLDER)
        else:
            tasks[BY_NAME[word].name] = BY_NAME[word]
    if not tasks:
        raise UsageError("no task is named", where="--tasks", fix="write glue, pydocs, none or names with commas")
    if hub.is_hub(folder) and any(task is not PYDOCS for task in tasks.values()):
        hub.require()
    return Selection(tasks=tuple(tasks.values()), left_out=tuple(left_out.items()))


def load(task: Task, folder: Path | None, *, train_rows: int | None = None, test: bool = False) -> TaskData:
    """The rows of a task, its train set capped; with `test` also the rows of its test files, to be answered. Raises
    DataError for files that cannot be used."""
    if task.suite == PYDOCS.suite:
        return cap_rows(pydocs.load(), train_rows)
    assert folder is not None, "parse_tasks asks for a folder"
    data = hub.read_hub(task, test=test) if hub.is_hub(folder) else read_task(task, folder, test=test)
    return cap_rows(data, train_rows)


def _instead(tasks: tuple[Task, ...], folder: Path, reasons: dict[str, str]) -> str:
    """What to do where no task of a suite can be read: put the files that lack into the folders that are there, or name
    another folder."""
    lacking = [f"{task.name}: {reasons[task.name]}" for task in tasks if find_folder(task, folder)]
    if lacking:
        return f"add what lacks: {'; '.join(lacking)}"
    first = f"{tasks[0].name}/{tasks[0].official[0] if tasks[0].official else 'train.jsonl'}"
    return f"{meant(tasks, folder)}; {first} lies in it, ..."


def _meant(word: str) -> str:
    """What a word that is no task was meant to be: a companion's task, several names without commas, or the nearest."""
    owner = next((t.name for t in BY_NAME.values() if word in [c.name.lower() for c in t.companions]), "")
    if owner:
        return f"write {owner.lower()}, whose model answers it as well"
    known = [*SUITES, "none", *BY_NAME]
    return f"write {','.join(word.split())}" if all(w in known for w in word.split()) else nearest(word, known)
