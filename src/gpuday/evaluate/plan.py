"""What is to be scored: every file that was named is read, and every name known, before anything is trained."""

from dataclasses import dataclass, replace
from pathlib import Path

from gpuday.core.errors import DataError, UsageError, nearest
from gpuday.evaluate.checking import check_data
from gpuday.evaluate.pooling import is_pooled
from gpuday.evaluate.protocols import PROTOCOLS, SHORT_ROWS, Protocol
from gpuday.evaluate.tasks import Selection, Task, TaskData, load, parse_tasks
from gpuday.evaluate.tasks.rows import cap_rows
from gpuday.models.downstream import Pooling

SHORT = "-short"
STARTING = "glue"  # suite whose tasks a protocol may start from one another; a user's own may have their names


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Tasks with their rows, and how they are fine-tuned."""

    data: tuple[TaskData, ...]
    """All rows, in the order in which they are scored: a task that others start from comes first."""
    protocol: Protocol
    seeds: int
    """Fine-tunings of each task, with seeds 0, 1, ..."""
    fractions: tuple[float, ...] = (1.0,)
    """Shares of the train rows; the whole comes first, and is always among them."""
    left_out: tuple[tuple[str, str], ...] = ()
    """(task, reason) of those of a suite that cannot be scored."""

    def used(self, data: TaskData) -> Protocol:
        """The protocol by the name that it has for a task: where it caps neither its rows nor those of the task that it
        starts from, it is the one without a cap; where the task's head reads every token, the one without a pooling."""
        parent = parent_of(self.protocol, data.task)
        theirs = [d for d in self.data if d.task.suite == STARTING and d.task.name.lower() == parent]
        rows = max(len(d.train) for d in (data, *theirs))
        capped = self.protocol.rows is not None and self.protocol.rows < rows
        found = self.protocol if capped else uncapped(self.protocol)
        return found if is_pooled(data.task) else unpooled(found)

    def part(self, data: TaskData, fraction: float) -> TaskData:
        """A task with a share of its rows. Which they are depends on the task alone, and those of a smaller share are among
        those of a larger one."""
        rows = min(self.protocol.rows or len(data.train), len(data.train))
        share = cap_rows(data, max(1, round(fraction * rows)))
        return share if fraction == 1.0 else replace(share, test={})


def make_plan(
    *,
    tasks: str | Selection = "pydocs",
    task_data: Path | None = None,
    own: TaskData | None = None,
    protocol: Protocol | str = "P1",
    seeds: int | None = None,
    train_rows: int | None = None,
    pooling: Pooling | None = None,
    fractions: tuple[float, ...] = (1.0,),
    test: bool = False,
) -> Plan:
    """Read the tasks' files. Raises UsageError for what cannot be meant, DataError for files that cannot be used, and as
    `check_data` does for every share of the rows.

    `own` is a task of the user's; `seeds` is None for the protocol's number; `pooling` is None for every subject's own; `test`
    keeps rows without labels.
    """
    known = pooled(protocol_of(protocol, train_rows), pooling)
    if seeds is not None and seeds < 1:
        raise UsageError(f"{seeds} task seeds", where="--task-seeds", fix="give 1 seed or more")
    if known.sweep is not None and fractions != (1.0,):
        raise UsageError(
            f"{known.name} chooses a setting for each task, so that a curve would show its choices",
            where="--train-fraction",
            fix="make curves under P1 or P1-small",
        )
    selection = parse_tasks(tasks, task_data) if isinstance(tasks, str) else tasks
    data = [load(task, task_data, test=test) for task in selection.tasks]
    data, left_out = _with_parents(
        [*data, *([own] if own else [])], known, task_data, dict(selection.left_out), test=test
    )
    plan = Plan(
        data=tuple(data),
        protocol=known,
        seeds=known.seeds if seeds is None else seeds,
        fractions=(1.0, *sorted({f for f in fractions if f != 1.0}, reverse=True)),
        left_out=tuple(left_out.items()),
    )
    for d in plan.data:
        for fraction in plan.fractions:
            part = plan.part(d, fraction)
            if (rows := len(part.train)) < known.batch:
                raise DataError(
                    f"{fraction:g} of {d.task.name}'s train rows are {rows}, fewer than a batch",
                    where="--train-fraction" if fraction < 1 else d.task.name,
                    fix=f"leave at least {known.batch}, or leave the task out",
                )
            check_data(part, known)
    return plan


def protocol_of(protocol: Protocol | str, rows: int | None) -> Protocol:
    """The protocol of a name, with at most so many train rows; its own cap if None."""
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise UsageError(
                f"no protocol is called {protocol!r}", where="--protocol", fix=nearest(protocol, PROTOCOLS)
            )
        protocol = PROTOCOLS[protocol]
    if rows is None:
        return protocol
    if rows < protocol.batch:
        fix = f"give {protocol.batch} rows or more, which is one batch"
        raise UsageError(f"{rows} task rows", where="--task-rows", fix=fix)
    base = uncapped(protocol)
    if rows == SHORT_ROWS and base.name + SHORT in PROTOCOLS:
        return replace(base, name=base.name + SHORT, rows=rows, seeds=PROTOCOLS[base.name + SHORT].seeds)
    return replace(base, name=f"{base.name}-rows-{rows}", rows=rows)


def uncapped(protocol: Protocol) -> Protocol:
    """The same without a cap on the train rows, under its name."""
    if protocol.rows is None:
        return protocol
    return replace(protocol, name=protocol.name.removesuffix(SHORT).removesuffix(f"-rows-{protocol.rows}"), rows=None)


def pooled(protocol: Protocol, pooling: Pooling | None) -> Protocol:
    """The same under which every subject is read in one way, which its name says before a cap: P1-mean-short."""
    if pooling is None:
        return protocol
    bare = uncapped(protocol).name
    return replace(protocol, name=f"{bare}-{pooling}{protocol.name.removeprefix(bare)}", pooling=pooling)


def unpooled(protocol: Protocol) -> Protocol:
    """The same under which every subject is read in its own way, under its name."""
    if protocol.pooling is None:
        return protocol
    return replace(protocol, name=protocol.name.replace(f"-{protocol.pooling}", "", 1), pooling=None)


def parent_of(protocol: Protocol, task: Task) -> str | None:
    """Name in lower case of the task whose fine-tuned encoder this one starts from; None: from the subject's own."""
    return protocol.parent(task.name) if task.suite == STARTING else None


def settings_of(protocol: Protocol, task: Task) -> tuple[Protocol, ...]:
    """What is to be tried for a task, without sweeps; one that only has the name of a task of the suite is none of them."""
    return protocol.settings(task.name if task.suite == STARTING else "")


def fractions_of(text: str | None) -> tuple[float, ...]:
    """`1,0.5,0.1` as numbers in (0, 1]."""
    try:
        found = tuple(float(word) for word in ("1" if text is None else text).split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < f <= 1 for f in found):
        raise UsageError(
            f"{text!r} are no shares of the train rows",
            where="--train-fraction",
            fix="give numbers above 0 and up to 1 with commas: 1,0.5,0.25,0.1",
        )
    return found


def _with_parents(
    data: list[TaskData], protocol: Protocol, folder: Path | None, left_out: dict[str, str], *, test: bool
) -> tuple[list[TaskData], dict[str, str]]:
    """The tasks with those first that others start from, and what is left out since its parent is.

    A parent that was not named is added where its files are there. Raises UsageError where a task was named whose parent's
    files are missing.
    """
    parents = {parent for d in data if (parent := parent_of(protocol, d.task))}
    there = {d.task.name.lower(): d for d in data if d.task.suite == STARTING}
    out = {name.lower(): reason for name, reason in left_out.items()}
    for name in sorted(parents - there.keys()):
        children = [d.task.name for d in data if parent_of(protocol, d.task) == name]
        if name in out:
            left_out |= {child: f"{protocol.name} starts it from {name.upper()}: {out[name]}" for child in children}
            data = [d for d in data if parent_of(protocol, d.task) != name]
            continue
        try:
            (task,) = parse_tasks(name, folder).tasks
            there[name] = load(task, folder, test=test)
        except (DataError, UsageError) as error:
            raise UsageError(
                f"{protocol.name} starts {', '.join(children)} from {name.upper()}, which cannot be read: {error.what}",
                where="--task-data",
                fix=f"put {name.upper()} there, or use another protocol",
            ) from error
    first = [there[name] for name in sorted(parents & there.keys())]
    return [*first, *(d for d in data if all(d is not parent for parent in first))], left_out
