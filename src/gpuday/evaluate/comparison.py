"""Several models over the same tasks: who is ahead, how sure that is, and what the answer depends on.

Probability of improvement: Agarwal et al., arXiv 2108.13264, P(X > Y) of a seed of each, ties half, averaged over tasks.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuday.core.errors import UsageError
from gpuday.core.seeds import generator
from gpuday.evaluate.aggregates import MEANS, Mnli, TaskScore, aggregates, counted, left_out_in_turn
from gpuday.evaluate.intervals import CONFIDENCE, LEAST_SEEDS, Interval, bca

Seeds = Mapping[str, Sequence[float]]
"""One model: the main metric of every seed, by task."""
Marks = Mapping[str, tuple[float | None, float | None]]
"""(chance, reference) by task."""
Order = list[list[str]]
"""Models from best to worst; those that are equal stand together."""

RANK = "mean rank"
RESAMPLES = 2_000
EQUAL = 1e-12  # two means of the same numbers may differ in the last bit


def compare(models: Mapping[str, Seeds], *, marks: Marks | None = None, mnli: Mnli = "once") -> dict[str, Any]:
    """What two or more models' scores say about their order, over the tasks that all of them have.

    {"models", "tasks", "left_out": {task: reason}, "aggregates": {model: see `aggregates`}, "mean_rank": {model: value},
    "improvement": [{"model", "over", "probability", "interval"}], "differences": [{"task", "model", "over", "difference",
    "interval"}], "orders": {aggregate: {"order", "without": {task: order}}}, "depends_on_aggregate", "depends_on_task":
    {task: [aggregate]}, "sentence"}. Raises UsageError where there is nothing to compare.
    """
    first = next(iter(models.values()), {})
    everywhere = [task for task in first if all(task in seeds for seeds in models.values())]
    tasks = counted(everywhere, mnli)
    if len(models) < 2 or not tasks:
        raise UsageError(
            "there is nothing to compare" if tasks else "the models have no task in common",
            fix="give two or more, scored on the same tasks under the same protocol",
        )
    known = marks or {}
    tables = {model: {task: _score(seeds[task], known.get(task)) for task in tasks} for model, seeds in models.items()}
    orders = {kind: found for kind in (*MEANS, RANK) if (found := _orders(kind, tables, tasks))}
    changes = _changes(orders)
    return {
        "models": list(models),
        "tasks": tasks,
        "left_out": _missing(models, everywhere),
        "aggregates": {model: aggregates(table, mnli=mnli) for model, table in tables.items()},
        "mean_rank": mean_rank(tables, tasks),
        "improvement": [_improvement(models, a, b, tasks) for a, b in combinations(models, 2)],
        "differences": [_difference(models, a, b, task) for a, b in combinations(models, 2) for task in tasks],
        "orders": orders,
        "depends_on_aggregate": len({str(found["order"]) for found in orders.values()}) > 1,
        "depends_on_task": changes,
        "sentence": _sentence(orders, changes),
    }


def mean_rank(tables: Mapping[str, Mapping[str, TaskScore]], tasks: Sequence[str]) -> dict[str, float]:
    """The rank among the models, 1 being best, averaged over the tasks; equal scores share their mean rank."""
    from scipy.stats import rankdata

    scores = np.array([[table[task].value for task in tasks] for table in tables.values()])
    return dict(zip(tables, np.mean(rankdata(-scores, axis=0), axis=1).tolist(), strict=True))


def improvement(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> tuple[float, Interval | None]:
    """P(a seed of ours is better than one of theirs), averaged over tasks, and its interval; [task][seed] each.

    The interval resamples the seeds within every task, which are the strata. None below 3 seeds anywhere; its confidence is
    at most what so many seeds allow, see `most_confidence`.
    """
    wins = [_wins(x, y) for x, y in zip(ours, theirs, strict=True)]
    probability = statistics.fmean(float(won.mean()) for won in wins)
    least = min(min(won.shape) for won in wins)
    if least < LEAST_SEEDS:
        return probability, None
    draws = generator(0, "improvement")
    total = np.zeros(RESAMPLES)
    for won in wins:
        n, m = won.shape
        mine = draws.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
        other = draws.multinomial(m, np.full(m, 1 / m), size=RESAMPLES) / m
        total += np.einsum("rn,nm,rm->r", mine, won, other)
    low, high = np.quantile(total / len(wins), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    confidence = most_confidence(ours, theirs)
    return probability, Interval(low=low, high=high, confidence=confidence, method="percentile, by task", n=least)


def most_confidence(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """What an interval from these seeds can hold at most, [task][seed] each: 90% of three and three in one task.

    Of two models that differ by nothing, n seeds of one lie above all m of the other in 1 of C(n + m, n) cases, each way; where
    the m are all equal, in 2**-n, as above a median. Every resample then says so too, and the interval misses. Of several
    tasks it must happen in all of them.
    """
    apart = math.prod(1 / _orders_of(x, y) for x, y in zip(ours, theirs, strict=True))
    return min(CONFIDENCE, 1 - 2 * apart)


def _orders_of(ours: Sequence[float], theirs: Sequence[float]) -> int:
    """In how many ways, all as likely, the seeds of two like models can lie to one another."""
    varied = [len(values) for values in (ours, theirs) if min(values) < max(values)]
    return 2 ** varied[0] if len(varied) == 1 else math.comb(len(ours) + len(theirs), len(ours))


def _score(values: Sequence[float], marks: tuple[float | None, float | None] | None) -> TaskScore:
    chance, reference = marks or (None, None)
    return TaskScore(value=statistics.median(values), chance=chance, reference=reference)


def _missing(models: Mapping[str, Seeds], everywhere: Sequence[str]) -> dict[str, str]:
    every = dict.fromkeys(task for seeds in models.values() for task in seeds)
    return {
        task: f"not scored: {', '.join(model for model, seeds in models.items() if task not in seeds)}"
        for task in every
        if task not in everywhere
    }


def _wins(ours: Sequence[float], theirs: Sequence[float]) -> NDArray[np.float64]:
    """[our seeds, their seeds]: 1 where ours is better, a half where they are equal."""
    x, y = np.asarray(ours)[:, None], np.asarray(theirs)[None, :]
    return np.asarray((x > y) + 0.5 * (x == y))


def _improvement(models: Mapping[str, Seeds], model: str, over: str, tasks: Sequence[str]) -> dict[str, Any]:
    probability, interval = improvement([models[model][t] for t in tasks], [models[over][t] for t in tasks])
    return {
        "model": model,
        "over": over,
        "probability": probability,
        "interval": asdict(interval) if interval else None,
    }


def _difference(models: Mapping[str, Seeds], model: str, over: str, task: str) -> dict[str, Any]:
    ours, theirs = models[model][task], models[over][task]
    interval = bca(ours, theirs, statistic=_apart)
    if interval:
        interval = replace(interval, confidence=most_confidence([ours], [theirs]))
    return {
        "task": task,
        "model": model,
        "over": over,
        "difference": statistics.median(ours) - statistics.median(theirs),
        "interval": asdict(interval) if interval else None,
    }


def _apart(ours: NDArray[np.float64], theirs: NDArray[np.float64], axis: int) -> Any:
    return np.median(ours, axis=axis) - np.median(theirs, axis=axis)


def _orders(kind: str, tables: Mapping[str, Mapping[str, TaskScore]], tasks: Sequence[str]) -> dict[str, Any] | None:
    """The order under an aggregate, with all tasks and without each; None where the aggregate is not defined."""
    whole = _order(kind, tables, tasks)
    if whole is None:
        return None
    without = {out: _order(kind, tables, names) for out, names in left_out_in_turn(tasks).items()}
    return {"order": whole, "without": {out: order for out, order in without.items() if order is not None}}


def _order(kind: str, tables: Mapping[str, Mapping[str, TaskScore]], tasks: Sequence[str]) -> Order | None:
    if kind == RANK:
        values: dict[str, float] = {model: -rank for model, rank in mean_rank(tables, tasks).items()}
    else:
        found = {model: MEANS[kind]([table[task] for task in tasks]) for model, table in tables.items()}
        values = {model: value for model, value in found.items() if value is not None}
        if len(values) < len(found):
            return None
    order: Order = []
    for model in sorted(values, key=lambda name: -values[name]):
        if order and values[order[-1][0]] - values[model] <= EQUAL:
            order[-1].append(model)
        else:
            order.append([model])
    return order


def _changes(orders: Mapping[str, dict[str, Any]]) -> dict[str, list[str]]:
    """{task: the aggregates whose order changes without it}"""
    changes: dict[str, list[str]] = {}
    for kind, found in orders.items():
        for task, order in found["without"].items():
            if order != found["order"]:
                changes.setdefault(task, []).append(kind)
    return changes


def _sentence(orders: Mapping[str, dict[str, Any]], changes: Mapping[str, Sequence[str]]) -> str:
    """Whether the order depends on the aggregate, and whether on one task, for people."""
    kinds: dict[str, list[str]] = {}
    for kind, found in orders.items():
        kinds.setdefault(_said(found["order"]), []).append(kind)
    if not any(found["without"] for found in orders.values()):
        return f"Of one task alone: {next(iter(kinds))}."
    if len(kinds) == 1:
        said = f"All {len(orders)} aggregates give one order: {next(iter(kinds))}."
    else:
        each = "; ".join(f"{order} by {', '.join(names)}" for order, names in kinds.items())
        said = f"The order depends on the aggregate: {each}."
    if not changes:
        return f"{said} Leaving out any one task changes none of them."
    each = "; ".join(f"{task} ({', '.join(names)})" for task, names in changes.items())
    return f"{said} It changes without {each}."


def _said(order: Order) -> str:
    return " > ".join(" = ".join(group) for group in order)
