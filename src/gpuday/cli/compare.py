"""`gpuday compare`: the scores of several models side by side, from their summaries. Nothing is trained, no model is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuday.cli.flags import Folders, Mnli, Output
from gpuday.cli.screen import Screen
from gpuday.core.absent import why_absent
from gpuday.core.errors import DataError, UsageError
from gpuday.core.rundir import RunDir, read_json
from gpuday.evaluate.aggregates import MATCHED, MEANS, MISMATCHED, NEVER, counted
from gpuday.evaluate.comparison import RANK, compare
from gpuday.evaluate.tasks.own import SUITE as OWN
from gpuday.report.formats import is_number
from gpuday.report.scores import GONE, interval, on_file, sections

# Scores of two models answer one question only where all of these are the same.
QUESTION = (
    *(
        "metric",
        "version",
        "protocol",
        "start",
        "train_rows",
        "train_rows_available",
        "dev_rows",
        "partial",
        "data_hash",
    ),
)
NAMED = ("version", "data_hash")  # two rows that both lack one may still answer different questions
OUTSIDE = "reported, and outside of every mean"


@dataclass(frozen=True, kw_only=True)
class Found:
    """One model's section of one suite under one protocol."""

    suite: str
    """The suite's name; empty where the section does not say."""
    tasks: dict[str, dict[str, Any]]
    """Those that have seeds, by name."""
    curves: dict[str, list[dict[str, Any]]]
    gone: tuple[str, ...]
    """Tasks of which a score file is gone, where the folder holds others."""

    def seeds(self, task: str) -> list[float]:
        """The main metric of every seed."""
        return [float(value) for value in self.tasks[task]["values"]]


def compare_command(
    runs: Folders,
    *,
    mnli: Mnli = "once",
    output: Output = Output(),  # noqa: B008
) -> None:
    """Models side by side: scores, means over tasks, ranks, and how sure their order is."""
    with Screen(as_json=output.json) as screen:
        if len(runs) < 2:
            raise UsageError(f"{len(runs)} model to compare", where="RUNS", fix="give the folders of two or more")
        models = dict(zip(_names(runs), map(_read, runs), strict=True))
        first, *others = models.values()
        if not (shared := [name for name in first if all(name in mine for mine in others)]):
            scored = "; ".join(f"{model}: {', '.join(mine)}" for model, mine in models.items())
            fix = f"score them on the same tasks under the same protocol; there is {scored}"
            raise DataError("the models share no suite under one protocol", where="RUNS", fix=fix)
        asked = {name: {model: mine[name] for model, mine in models.items()} for name in shared}
        refused = {name: why for name, theirs in asked.items() if (why := _why_not(theirs, mnli))}
        if len(refused) == len(shared):
            told = "; ".join(f"{name} ({why})" for name, why in refused.items())
            fix = "score the models on the same files with the same version of this package"
            raise DataError(f"no task of {', '.join(refused)} compares", where=told, fix=fix)
        for name in shared:
            if name not in refused:
                _show(name, asked[name], mnli, screen)
        if refused:
            screen.tell("left out", reasons=refused)


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' names, or their paths where two are called alike."""
    paths = [run.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise UsageError("a model is given twice", where="RUNS", fix="give each folder once")
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _read(run: Path) -> dict[str, Found]:
    """A model's sections by suite and protocol. Raises DataError where there is none."""
    if not run.is_dir():
        raise DataError(f"{run} is not a folder", where="RUNS", fix=why_absent(str(run)))
    path = RunDir(run).summary
    summary = read_json(path) if path.exists() else {}
    known = summary.get("scores") if isinstance(summary, dict) else None
    files = {(file.parent.parent.name, file.parent.name, file.stem) for file in RunDir(run).scores.glob("*/*/*.json")}
    found = (
        {name or str(s.get("protocol")): _found(on_file(s, files)) for name, s in sections(known).items()}
        if isinstance(known, dict)
        else {}
    )
    scored = {name: section for name, section in found.items() if section.tasks}
    if not scored:
        raise DataError(
            f"{run} holds no scores", where=str(path), fix=f"make them: gpuday evaluate {run} --tasks NAMES"
        )
    return scored


def _found(section: Mapping[str, Any]) -> Found:
    tasks, curves, gone = section.get("tasks"), section.get("curves"), section.get(GONE)
    rows = tasks.items() if isinstance(tasks, dict) else ()
    lines = curves.items() if isinstance(curves, dict) else ()
    return Found(
        suite=str(section.get("suite", "")),
        tasks={name: row for name, row in rows if isinstance(row, dict) and _is_scored(row)},
        curves={name: known for name, points in lines if (known := _points(points))},
        gone=tuple(gone) if isinstance(gone, list) else (),
    )


def _points(points: Any) -> list[dict[str, Any]]:
    """Those points of a curve that are whole."""
    known = points if isinstance(points, list) else []
    wanted = ("fraction", "rows", "median")
    return [point for point in known if isinstance(point, dict) and all(is_number(point.get(key)) for key in wanted)]


def _is_scored(row: Mapping[str, Any]) -> bool:
    values = row.get("values")
    return isinstance(values, list) and bool(values) and all(is_number(value) for value in values)


def _left_out(models: Mapping[str, Found]) -> dict[str, str]:
    """{a task that does not compare: why}, of those that the first model has"""
    return {task: reason for task in next(iter(models.values())).tasks if (reason := _reason(task, models))}


def _why_not(models: Mapping[str, Found], mnli: Mnli) -> str:
    """Why a suite does not compare; empty where it does."""
    left_out = _left_out(models)
    left = [t for t in next(iter(models.values())).tasks if t not in left_out]
    everywhere = [task for task in left if all(task in mine.tasks for mine in models.values())]
    if not counted(everywhere):
        return "; ".join(f"{task}: {reason}" for task, reason in left_out.items()) or "no task was scored for all"
    if mnli == "twice" and MATCHED in everywhere and MISMATCHED not in everywhere:
        lacking = ", ".join(model for model, mine in models.items() if MISMATCHED not in mine.tasks)
        why = f"it was not scored: {lacking}" if lacking else left_out[MISMATCHED]
        return f"{MATCHED} cannot count twice, since {MISMATCHED} does not compare: {why}"
    return ""


def _show(name: str, models: Mapping[str, Found], mnli: Mnli, screen: Screen) -> None:
    """One suite that compares: what does, and what was left out with the reason."""
    first, left_out = next(iter(models.values())), _left_out(models)
    seeds = {model: {t: mine.seeds(t) for t in mine.tasks if t not in left_out} for model, mine in models.items()}
    found = compare(seeds, marks={task: _marks(row) for task, row in first.tasks.items()}, mnli=mnli)
    found["left_out"] |= left_out | _gone(models)
    found["poolings"] = _poolings(found["tasks"], models)
    found["curves"] = {task: _curves(task, models) for task in _with_curves(models) if task not in found["left_out"]}
    if screen.as_json:
        screen.tell("compare", suite=name, mnli=mnli, scores=_scores(models, found["tasks"]), **found)
    else:
        _show_tables(name, models, found, screen)


def _gone(models: Mapping[str, Found]) -> dict[str, str]:
    """{task: whose scores of it cannot be traced}"""
    tasks = dict.fromkeys(task for mine in models.values() for task in mine.gone)
    whose = {task: ", ".join(model for model, mine in models.items() if task in mine.gone) for task in tasks}
    return {task: f"its score files are gone: {names}" for task, names in whose.items()}


def _reason(task: str, models: Mapping[str, Found]) -> str:
    """Why a task is left out; empty where it is not."""
    rows = [mine.tasks[task] for mine in models.values() if task in mine.tasks]
    own = next(iter(models.values())).suite == OWN  # the one task of its suite, which has no mean
    outside = task in NEVER or (rows[0].get("in_mean") is False and task != MISMATCHED and not own)
    return OUTSIDE if outside else _unequal(task, models)


def _unequal(task: str, models: Mapping[str, Found]) -> str:
    """In what the models' scores of a task answer different questions; empty where they do not, or one has none."""
    rows = {model: mine.tasks[task] for model, mine in models.items() if task in mine.tasks}
    if len(rows) > 1 and (unknown := [key for key in NAMED if any(row.get(key) is None for row in rows.values())]):
        return f"not known to be the same: {', '.join(unknown)}"
    keys = [key for key in QUESTION if len({str(row.get(key)) for row in rows.values()}) > 1]
    told = (f"{key} ({', '.join(f'{model}: {row.get(key)}' for model, row in rows.items())})" for key in keys)
    return f"differs in {'; '.join(told)}" if keys else ""


def _poolings(tasks: Sequence[str], models: Mapping[str, Found]) -> dict[str, str]:
    """{model: what its heads of whole rows read}, where one protocol leaves that to the models and they differ; else empty.
    Summaries of before there was a choice are of position 0."""
    rows = [{m: mine.tasks[task].get("pooling", "first") for m, mine in models.items()} for task in tasks]
    unlike = (row for row in rows if None not in row.values() and len({*row.values()}) > 1)
    return next(unlike, {})


def _marks(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    chance, reference = row.get("chance"), row.get("reference")
    return (
        float(chance) if isinstance(chance, int | float) else None,
        float(reference) if isinstance(reference, int | float) else None,
    )


def _with_curves(models: Mapping[str, Found]) -> list[str]:
    first, *others = models.values()
    return [task for task in first.curves if all(task in mine.curves for mine in others)]


def _curves(task: str, models: Mapping[str, Found]) -> dict[str, list[dict[str, Any]]]:
    """The curve of each model, without the shares that are other rows in one than in another."""
    rows: dict[float, set[int]] = {}
    for mine in models.values():
        for point in mine.curves[task]:
            rows.setdefault(point["fraction"], set()).add(point["rows"])
    return {m: [p for p in mine.curves[task] if len(rows[p["fraction"]]) == 1] for m, mine in models.items()}


def _scores(models: Mapping[str, Found], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each task and model."""
    keys = ("metric", "median", "interval", "rows_interval", "n", "values")
    return [
        {"task": task, "model": model, **{key: mine.tasks[task].get(key) for key in keys}}
        for task in tasks
        for model, mine in models.items()
    ]


def _show_tables(name: str, models: Mapping[str, Found], found: Mapping[str, Any], screen: Screen) -> None:
    """For people: the tables, then the sentence."""
    rows = []
    for task in found["tasks"]:
        cells = {model: _cell(mine.tasks[task]) for model, mine in models.items()}
        rows.append({"task": task, "metric": next(iter(models.values())).tasks[task].get("metric"), **cells})
    screen.table(f"{name}: median over seeds, and its interval", rows)
    if len(rows) > 1:
        screen.table(f"{name}: means over {len(rows)} tasks", [*_mean_rows(found)])
    pairs = [
        {
            "model": pair["model"],
            "over": pair["over"],
            "probability": f"{pair['probability']:.3f}",
            "interval": interval(pair["interval"]),
        }
        for pair in found["improvement"]
    ]
    screen.table(f"{name}: probability that a seed is better, averaged over tasks", pairs)
    apart = [
        {
            **{k: row[k] for k in ("task", "model", "over")},
            "difference": f"{row['difference']:+.3f}",
            "interval": interval(row["interval"]),
        }
        for row in found["differences"]
    ]
    screen.table(f"{name}: differences of medians", apart)
    for task, lines in found["curves"].items():
        screen.table(f"{name}: {task} with fewer training rows", _curve_rows(lines))
    if found["left_out"]:
        screen.tell("left out", reasons=found["left_out"])
    if found["poolings"]:
        screen.tell("notice", message="the models' heads read rows unlike: --pooling first or mean asks all alike")
        screen.tell("poolings", reasons=found["poolings"])
    screen.tell("order", message=found["sentence"])


def _cell(row: Mapping[str, Any]) -> str:
    ends = row.get("interval")
    return f"{row['median']:.3f}" + (f" ({interval(ends)})" if ends else "")


def _mean_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The value of each model under each aggregate, and the tasks without which the order is another."""
    changes: Mapping[str, Sequence[str]] = found["depends_on_task"]
    rows = []
    for kind in (*MEANS, RANK):
        if kind in found["orders"]:
            of = found["mean_rank"] if kind == RANK else {m: a[kind]["value"] for m, a in found["aggregates"].items()}
            other = ", ".join(task for task, kinds in changes.items() if kind in kinds)
            rows.append({"mean": kind, **{m: f"{v:.3f}" for m, v in of.items()}, "order changes without": other})
    return rows


def _curve_rows(lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each share that a model has; those of the same share hold the same training rows, see `_curves`."""
    shares = sorted({point["fraction"] for points in lines.values() for point in points})
    rows = []
    for share in shares:
        at = {m: next((p for p in points if p["fraction"] == share), None) for m, points in lines.items()}
        count = next(p["rows"] for p in at.values() if p is not None)
        rows.append(
            {"share": f"{share:g}", "rows": count, **{m: None if p is None else _cell(p) for m, p in at.items()}}
        )
    return rows
