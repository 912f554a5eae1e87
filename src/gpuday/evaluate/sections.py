"""From scores to the `scores` of summary.json: a section for each suite and protocol, to which later evaluations add."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuday.evaluate.aggregates import MATCHED, MISMATCHED, TaskScore, aggregates
from gpuday.evaluate.curves import Point, curves
from gpuday.evaluate.intervals import bca
from gpuday.evaluate.scorefile import Score, plain_interval, suite_folder
from gpuday.evaluate.tasks import Task
from gpuday.evaluate.tasks.pydocs import PYDOCS
from gpuday.evaluate.tasks.selection import SUITES

Section = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scores of one task: of all its rows by seed, and of the smaller shares of a curve."""

    task: Task
    scores: tuple[Score, ...]
    shares: tuple[Score, ...] = ()
    asked: str
    """Name of the protocol that was asked for, whether or not its cap bites here."""


def sections(found: Sequence[Scored], left_out: Mapping[str, str]) -> dict[str, Section]:
    """The sections of what was scored, by `<suite>-<protocol>`; see `section`."""
    by_name: dict[str, list[Scored]] = {}
    for suite in dict.fromkeys(scored.task.suite for scored in found):
        ours = [scored for scored in found if scored.task.suite == suite]
        by_name[f"{suite}-{_protocol(ours)}"] = ours
    return {
        name: section(ours, {task: left_out[task] for task in _names(ours[0].task.suite) if task in left_out})
        for name, ours in by_name.items()
    }


def section(found: Sequence[Scored], left_out: Mapping[str, str]) -> Section:
    """The scores of the tasks of one suite under one protocol.

    {"suite", "protocol", "model_hash", "seeds", "tasks": {name: see `task_row`}, "mean", "mean_of", "aggregates",
    "aggregates_mnli_twice", "curves", "left_out"}. `mean` is the arithmetic one over the medians of the tasks that the suite's
    mean counts; `mean_of` says of which, under which protocol, and which of them had partial rows. `aggregates` stand beside
    it, and once more with MNLI's two dev sets counted as two tasks, where both were scored. `curves` are over shares of the
    train rows.
    """
    first = found[0].scores[0]
    points = [_point(score) for scored in found if scored.shares for score in (*scored.scores, *scored.shares)]
    return _summed(
        {
            "suite": first.suite,
            "protocol": _protocol(found),
            "subject": first.subject,
            "model_hash": first.model_hash,
            "tasks": {scored.task.name: task_row(scored.task, scored.scores) for scored in found},
            "curves": curves(points),
            "left_out": dict(left_out),
        }
    )


def task_row(task: Task, scores: Sequence[Score]) -> dict[str, Any]:
    """What is reported of one task's scores over seeds. `spread` is the largest value less the smallest, `interval` that of
    the median over seeds, `rows_interval` over dev rows that of the seed whose score is the median."""
    values, first, middle = [score.value for score in scores], scores[0], median_of(scores)
    chance = first.baseline.get("chance", first.baseline["majority"]) if task.chance is None else task.chance
    return {
        "metric": first.metric,
        "median": statistics.median(values),
        "interval": plain_interval(bca(values)),
        "rows_interval": middle.interval,
        "spread": max(values) - min(values),
        "values": values,
        "seeds": [score.seed for score in scores],
        "n": len(values),
        "baseline": first.baseline,
        "chance": chance,
        "reference": task.reference,
        "in_mean": task.in_mean,
        "metrics": {m: statistics.median(s.metrics[m] for s in scores) for m in first.metrics},
        "protocol": first.protocol,
        "pooling": first.pooling,
        "chosen": first.chosen,
        "start": first.start,
        "version": first.version,
        "train_rows": first.train_rows,
        "train_rows_available": first.train_rows_available,
        "dev_rows": first.dev_rows,
        "longest_row": first.longest_row,
        "unread_words": first.unread_words,
        "partial": first.partial,
        "data_hash": first.data_hash,
        "seconds": sum(score.seconds for score in scores),
    }


def median_of(scores: Sequence[Score]) -> Score:
    """The score that is the median; of an even number the lower one of the two in the middle."""
    return sorted(scores, key=lambda score: (score.value, score.seed))[(len(scores) - 1) // 2]


def backed(old: Any, folder: Path) -> tuple[Any, list[str]]:
    """The sections of a summary without the tasks, and the points of curves, of which a score file is gone from the folder of
    the scores, their means taken anew; and the names of these. A section that does not say of which weights it is stays as it
    was, and a summary whose scores were moved away, so that there is no score file at all, is taken at its word."""
    if not isinstance(old, dict) or next(folder.glob("*/*/*.json"), None) is None:
        return old, []
    kept, gone = dict(old), list[str]()
    for name, section in old.items():
        if not isinstance(section, dict) or section.get("model_hash") is None:
            continue
        out = [task for task, row in section["tasks"].items() if not _has_files(folder, section["suite"], task, row)]
        tasks = {task: row for task, row in section["tasks"].items() if task not in out}
        left, lost = _curves_with_files(folder, {**section, "tasks": tasks})
        if out or lost:
            gone += [f"{name}/{task}" for task in [*out, *lost]]
            kept[name] = _summed({**section, "tasks": tasks, "curves": left})
    return {name: section for name, section in kept.items() if section.get("tasks")} if gone else old, gone


def _has_files(folder: Path, suite: str, task: str, row: Mapping[str, Any]) -> bool:
    place = folder / suite_folder(suite, row["protocol"]) / task
    return all((place / f"{seed}.json").is_file() for seed in row["seeds"])


def _curves_with_files(folder: Path, section: Section) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """The curves of a section's tasks without the points of which the score file of a seed is gone, and what these are called."""
    left, lost = dict[str, list[dict[str, Any]]](), list[str]()
    for task, row in section["tasks"].items():
        points = []
        for point in section["curves"].get(task, ()):
            place = folder / suite_folder(section["suite"], row["protocol"], point["fraction"]) / task
            if point["fraction"] == 1.0 or all((place / f"{seed}.json").is_file() for seed in range(point["n"])):
                points.append(point)
            else:
                lost.append(f"{task} at {point['fraction']:g}")
        if len(points) > 1:  # the point of all rows alone is no curve
            left[task] = points
    return left, lost


def added(old: Any, new: Mapping[str, Section]) -> dict[str, Section]:
    """The sections of a summary with new ones added; those of other weights are dropped.

    One that does not say of which weights it is stays as it was, and is added to nothing: as `<suite>-<protocol>`, or as
    `<suite>-<protocol>-earlier` beside a new one. A section of the same suite and protocol keeps the tasks, and the points of curves, that are not in the new one; its means
    are taken anew.
    """
    known = _by_name(old) if isinstance(old, dict) else {}
    hashes = {None, *(section["model_hash"] for section in new.values())}
    told = {k: v for k, v in known.items() if isinstance(v, dict) and v.get("tasks")}
    kept: dict[str, Section] = {k: v for k, v in told.items() if v.get("model_hash") in hashes}
    for name, section in new.items():
        before = kept.get(name)
        if before and before.get("model_hash") is None:
            kept[f"{name}-earlier"] = before
        elif before:
            tasks = {**before["tasks"], **section["tasks"]}
            out = {**before["left_out"], **section["left_out"]}
            section = _summed(
                {
                    **section,
                    "tasks": tasks,
                    "curves": _joined(before, section),
                    "left_out": {task: reason for task, reason in out.items() if task not in tasks},
                }
            )
        kept[name] = section
    return kept


def _by_name(old: dict[str, Any]) -> dict[str, Any]:
    """A summary's sections; one of before there were several goes by the suite that most of its tasks are of."""
    tasks = old.get("tasks")
    if not isinstance(tasks, dict):
        return old
    suite = max((*SUITES, PYDOCS.suite), key=lambda name: len(tasks.keys() & {*_names(name)}))
    return {f"{suite}-{old.get('protocol')}": old}


def _joined(before: Section, section: Section) -> dict[str, list[dict[str, Any]]]:
    """The curves of two sections. Points of a task that was scored again stay only where they are of the same rows, and
    that of all rows is the newest."""
    found = {task: points for task, points in before["curves"].items() if task not in section["tasks"]}
    for task, row in section["tasks"].items():
        old = before["tasks"].get(task, {})
        same = all(old.get(key) == row[key] for key in ("data_hash", "version", "protocol", "start"))
        points = {point["fraction"]: point for point in before["curves"].get(task, ()) if same}
        points |= {point["fraction"]: point for point in section["curves"].get(task, ())}
        if points:
            whole = {key: row[key] for key in ("median", "interval", "n", "values")}
            points[1.0] = {"fraction": 1.0, "rows": row["train_rows"], **whole}
            found[task] = [points[fraction] for fraction in sorted(points)]
    return found


def _summed(section: Section) -> Section:
    """A section with its means, from its tasks."""
    rows = section["tasks"]
    counted = [name for name, row in rows.items() if row["in_mean"]]
    names = {rows[name]["protocol"] for name in counted}
    marks = {
        name: TaskScore(value=row["median"], chance=row["chance"], reference=row["reference"])
        for name, row in rows.items()
        if row["in_mean"] or name == MISMATCHED
    }
    mean_of = {
        "tasks": counted,
        "protocol": (section["protocol"] if section["protocol"] in names else min(names)) if names else None,
        "partial": [name for name in counted if rows[name]["partial"]],
    }
    return {
        **section,
        "seeds": sorted({seed for row in rows.values() for seed in row["seeds"]}),
        "mean": statistics.fmean(rows[name]["median"] for name in counted) if counted else None,
        "mean_of": mean_of,
        "aggregates": aggregates(marks) if counted else None,
        "aggregates_mnli_twice": aggregates(marks, mnli="twice") if {MATCHED, MISMATCHED} <= marks.keys() else None,
    }


def _names(suite: str) -> list[str]:
    return [task.name for task in (*SUITES.get(suite, ()), PYDOCS) if task.suite == suite]


def _protocol(found: Sequence[Scored]) -> str:
    """Where only some tasks were capped, the whole goes by the capped name: it is not comparable to P1."""
    names = {score.protocol for scored in found for score in scored.scores}
    return found[0].asked if found[0].asked in names else min(names)


def _point(score: Score) -> Point:
    return Point(task=score.task, fraction=score.fraction, rows=score.train_rows, value=score.value)
