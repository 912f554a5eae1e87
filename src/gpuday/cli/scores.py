"""Scores on the screen: a table of the tasks under each protocol, and beneath it the means, side by side."""

from collections.abc import Mapping
from typing import Any

from gpuday.cli.screen import Screen
from gpuday.evaluate.aggregates import MEANS
from gpuday.evaluate.intervals import LEAST_SEEDS
from gpuday.evaluate.sections import Section


def show_scores(sections: Mapping[str, Section], untrained: Mapping[str, Section], screen: Screen) -> None:
    """Every section as a table, with the median of the untrained subject in a column of its own where there is one."""
    for name, section in sections.items():
        without = untrained.get(name, {}).get("tasks", {})
        screen.table(f"scores, {section['suite']} under {section['protocol']}", task_rows(section, without))
        for message in _cautions(section):
            screen.tell("notice", message=message)
        if section["aggregates"] and len(section["mean_of"]["tasks"]) > 1:
            screen.table("means over the tasks", mean_rows(section))
        for task, points in section["curves"].items():
            screen.table(f"{task} by share of its training rows", [_point(task, p) for p in points])
        for task, reason in section["left_out"].items():
            screen.tell("left_out", task=task, reason=reason)


def task_rows(section: Section, untrained: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each task: its median over n seeds with its interval and spread, and what it is to be held against.

    The pooling stands there where it is another than position 0 for one of them.
    """
    tasks = section["tasks"]
    methods = dict.fromkeys(method for row in tasks.values() for method in row["baseline"])
    pooled = any(row.get("pooling") == "mean" for row in tasks.values())
    rows = []
    for name, row in tasks.items():
        against = {method: row["baseline"].get(method) for method in methods}
        against |= {"untrained": untrained.get(name, {}).get("median")} if untrained else {}
        rows.append(
            {
                "task": name,
                "metric": row["metric"],
                "n": row["n"],
                "median": row["median"],
                **_ends(row["interval"]),
                "spread": row["spread"],
                **against,
                "protocol": row["protocol"],
                **({"pooling": row["pooling"]} if pooled else {}),
            }
        )
    return rows


def _cautions(section: Section) -> list[str]:
    """What a reader of the table should not take for more than it is."""
    beaten = {
        name: [f"{method} {value:.3g}" for method, value in row["baseline"].items() if value >= row["median"]]
        for name, row in section["tasks"].items()
    }
    told = [f"{name} {section['tasks'][name]['median']:.3g} ({', '.join(by)})" for name, by in beaten.items() if by]
    cautions = [f"no better than a baseline without a model: {'; '.join(told)}"] if told else []
    if any(row["n"] < LEAST_SEEDS for row in section["tasks"].values()):
        cautions.append(f"a median over fewer than {LEAST_SEEDS} seeds has no interval")
    return cautions


def mean_rows(section: Section) -> list[dict[str, Any]]:
    """A row for each mean: its value, and the task that it hangs on most with the change that leaving it out makes."""
    rows = []
    for kind in MEANS:
        found = section["aggregates"][kind]
        changes = {task: w["change"] for task, w in found["without"].items() if w["change"] is not None}
        most = max(changes, key=lambda task: abs(changes[task]), default=None)
        change = None if most is None else changes[most]
        rows.append({"mean": kind, "value": found["value"], "without": most, "changes_by": change})
    return rows


def _point(task: str, point: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: point[key] for key in ("fraction", "rows", "n", "median")}
    return {"task": task, **shown, **_ends(point["interval"])}


def _ends(interval: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Both ends, and the confidence, which few seeds do not bring to 95%."""
    return {key: None if interval is None else interval.get(key) for key in ("low", "high", "confidence")}
