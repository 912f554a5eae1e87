"""The tables of downstream scores, one for each suite and protocol: every task's median, interval, seeds and marks, and the
means over tasks side by side, with and without each task."""

import statistics
from dataclasses import dataclass
from typing import Any

from gpuday.report import formats
from gpuday.report.formats import percent
from gpuday.report.load import RunRecord

BASELINES = ("majority", "chance", "baseline")
MEANS = ("arithmetic", "geometric", "harmonic", "normalised")
MEANS_OF = ONCE, TWICE = "aggregates", "aggregates_mnli_twice"
GONE = "files_gone"  # of a section as it is read here: tasks whose score files are gone, or True for all of them
MEANS_GONE = "means_gone"  # whether its means went with them


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One task's scores over seeds. `dots` and `marks` are percentages on the strip from 0 to its largest value."""

    name: str
    metric: str
    median: str
    interval: str
    rows_interval: str
    spread: str
    n: int
    values: str
    baselines: str
    reference: str
    rows: str
    version: str
    dots: tuple[float, ...]
    marks: tuple[float, ...]
    reference_mark: float | None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The scores of one suite under one protocol."""

    name: str
    protocol: str
    tasks: tuple[TaskRow, ...]
    means: tuple[tuple[str, ...], ...]
    """(which tasks, value under each of `MEANS`); the first row counts them all."""
    notes: tuple[str, ...]
    """What the means do not count, and why; what was left out."""


def sections(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A summary's `scores` by suite and protocol. One of before there were several has one section, without a name."""
    if isinstance(found.get("tasks"), dict) or "protocol" in found:
        return {"": found}
    return {str(name): section for name, section in found.items() if isinstance(section, dict)}


def sections_on_file(record: RunRecord) -> dict[str, dict[str, Any]]:
    """The sections of a run's summary without the tasks of which a score file is gone: those it names, and its means go too
    where they count one of them. Where the folder holds no score at all, as in a record, the summary is taken at its word,
    and the section says so."""
    files = {(score.suite, score.task, score.seed) for score in record.scores}
    return {name: on_file(section, files) for name, section in sections(record.section("scores")).items()}


def suites(record: RunRecord) -> list[Suite]:
    """All tables; from the summary, else one from the score files of the tasks that are done so far."""
    found = [_suite(name, section) for name, section in sections_on_file(record).items()]
    if any(suite.tasks for suite in found):
        return found
    files = _from_files(record)
    return [_suite("", {"tasks": files})] if files else []


def tasks(record: RunRecord) -> list[TaskRow]:
    """The rows of all tables."""
    return [row for suite in suites(record) for row in suite.tasks]


def on_file(section: dict[str, Any], files: set[tuple[str, str, str]]) -> dict[str, Any]:
    """A section as `sections_on_file` says, given the (folder, task, seed) of every score file."""
    tasks = _table(section.get("tasks"))
    told = {name: _files_of(section, name, _table(row)) for name, row in tasks.items()}
    gone = [name for name, wanted in told.items() if not wanted <= files]
    if not gone:
        return section
    if not files:
        return {**section, GONE: True}
    counted = _table(section.get("mean_of")).get("tasks")
    lost = (*MEANS_OF, "mean") if not isinstance(counted, list) or {*counted} & {*gone} else ()
    kept = {key: value for key, value in section.items() if key not in lost}
    for key in ("tasks", "curves"):
        kept[key] = {name: value for name, value in _table(section.get(key)).items() if name not in gone}
    return {**kept, GONE: gone, MEANS_GONE: bool(lost and section.get(ONCE))}


def _files_of(section: dict[str, Any], task: str, row: dict[str, Any]) -> set[tuple[str, str, str]]:
    """(folder, task, seed) of each score in a row; none where a summary of before does not say."""
    suite, protocol, seeds = section.get("suite"), row.get("protocol"), row.get("seeds")
    if not isinstance(suite, str) or not isinstance(protocol, str) or not isinstance(seeds, list):
        return set()
    folder = suite if protocol == "P1" else f"{suite}-{protocol}"
    return {(folder, task, str(seed)) for seed in seeds}


def _suite(name: str, section: dict[str, Any]) -> Suite:
    found = _table(section.get("tasks"))
    return Suite(
        name=formats.clean(name),
        protocol=_protocol(section),
        tasks=tuple(_task(str(n), v if isinstance(v, dict) else {"median": v}) for n, v in found.items()),
        means=tuple(_means(section)),
        notes=tuple(_notes(section)),
    )


def _protocol(section: dict[str, Any]) -> str:
    """Under which rules the models were fine-tuned, with the seeds."""
    named = formats.text(section.get("protocol")) if section.get("protocol") else "protocol not stated"
    seeds = section.get("seeds")
    return f"{named}; seeds {formats.text(seeds)}" if seeds not in (None, "", []) else named


def _means(section: dict[str, Any]) -> list[tuple[str, ...]]:
    """The rows of the table of means: of all tasks, with MNLI counted twice where it can be, and without each task."""
    once, twice = _table(section.get(ONCE)), _table(section.get(TWICE))
    columns = [_table(once.get(kind)) for kind in MEANS]
    left_out = dict.fromkeys(str(task) for column in columns for task in _table(column.get("without")))
    if not left_out:
        return []  # of one task every mean is its score
    rows = [("all tasks", *(formats.decimals(column.get("value")) for column in columns))]
    if twice:
        values = (formats.decimals(_table(twice.get(kind)).get("value")) for kind in MEANS)
        rows.append(("all tasks, MNLI's two dev sets as two", *values))
    for task in left_out:
        cells = (_without(_table(_table(column.get("without")).get(task))) for column in columns)
        rows.append((f"without {formats.clean(task)}", *cells))
    return rows


def _without(found: dict[str, Any]) -> str:
    """`0.712 (+0.031)`"""
    value, change = found.get("value"), found.get("change")
    return f"{formats.decimals(value)} ({change:+.3f})" if formats.is_number(change) else formats.decimals(value)


def _notes(section: dict[str, Any]) -> list[str]:
    means = _table(section.get(ONCE))
    zero, unmarked = means.get("not_positive"), means.get("without_marks")
    partial = _table(section.get("mean_of")).get("partial")
    left_out = _table(section.get("left_out"))
    pooled = [name for name, row in _table(section.get("tasks")).items() if _table(row).get("pooling") == "mean"]
    notes = [
        ("Read from the mean of a row's tokens, not from position 0: {}.", pooled),
        ("At or below 0, so that the geometric and the harmonic mean are 0: {}.", zero),
        ("Without a published mark for people, and so not in the normalised mean: {}.", unmarked),
        ("Scored on a part of the official rows: {}.", partial),
    ]
    told = [text.format(formats.text(names)) for text, names in notes if names]
    if (gone := section.get(GONE)) is True:
        told.append("The score files are not in this folder: this is what its summary says.")
    elif gone:
        told.append(f"Not shown, since their score files are gone: {formats.text(gone)}.")
        told += ["No means: they count one of these."] if section[MEANS_GONE] else []
    return [*told, f"Left out: {formats.text(left_out)}."] if left_out else told


def _task(name: str, table: dict[str, Any]) -> TaskRow:
    given = table.get("values")
    values = [float(v) for v in given if formats.is_number(v)] if isinstance(given, list) else []
    median = table.get("median", statistics.median(values) if values else None)
    known = {b: table[b] for b in BASELINES if table.get(b) is not None}
    if isinstance(known.get("baseline"), dict):
        known |= known.pop("baseline")
    marks = [float(v) for v in known.values() if formats.is_number(v)]
    reference = table.get("reference")
    # Scores are shares of one or percentages; the strip must hold whichever they are.
    scale = 100.0 if max([*values, *marks, formats.number_or(median, 0.0)], default=0.0) > 1 else 1.0
    return TaskRow(
        name=formats.text(name),
        metric=formats.text(table.get("metric")),
        median=formats.decimals(median),
        interval=interval(table.get("interval")),
        rows_interval=interval(table.get("rows_interval")),
        spread=f"{min(values):.3f} to {max(values):.3f}" if len(values) > 1 else formats.MISSING,
        n=len(values),
        values=", ".join(f"{v:.3f}" for v in values[:50]),
        baselines=", ".join(f"{formats.clean(str(k))} {formats.decimals(v)}" for k, v in known.items()),
        reference=formats.MISSING if reference is None else formats.decimals(reference),
        rows=_rows(table),
        version=formats.text(table.get("version")),
        dots=tuple(percent(v / scale) for v in values),
        marks=tuple(percent(v / scale) for v in marks),
        reference_mark=percent(formats.number_or(reference, 0.0) / scale) if formats.is_number(reference) else None,
    )


def interval(found: Any) -> str:
    """`0.699 to 0.720 (94%)`: the confidence, where it is known, and the method, where it is not BCa, which equal values and
    those that BCa is not defined for do not have."""
    table = _table(found)
    if not table:
        return formats.MISSING
    ends = f"{formats.decimals(table.get('low'))} to {formats.decimals(table.get('high'))}"
    method, confidence = formats.text(table.get("method")), table.get("confidence")
    told = [f"{confidence:.0%}"] if formats.is_number(confidence) else []
    told += [] if method == "BCa" else [method]
    return f"{ends} ({', '.join(told)})" if told else ends


def _table(value: Any) -> dict[str, Any]:
    """A table of the summary, empty where something else stands there."""
    return value if isinstance(value, dict) else {}


def _rows(table: dict[str, Any]) -> str:
    """How much of a task was used: `8,000 of 67,349 train, 872 dev, partial`."""
    train, available, dev = (table.get(k) for k in ("train_rows", "train_rows_available", "dev_rows"))
    if train is None:
        return formats.MISSING
    of_all = f" of {formats.count(available)}" if available not in (None, train) else ""
    tested = f", {formats.count(dev)} dev" if dev is not None else ""
    return f"{formats.count(train)}{of_all} train{tested}{', partial' if table.get('partial') is True else ''}"


def _from_files(record: RunRecord) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for score in record.scores:
        value = next((score.values[k] for k in ("score", "value") if formats.is_number(score.values.get(k))), None)
        row = found.setdefault(f"{score.suite}/{score.task}", {"values": [], "metric": score.values.get("metric")})
        if value is not None:
            row["values"].append(value)
    return found
