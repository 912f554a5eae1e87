"""The rows of `gpuday list`: runs, parts with their knobs, axes of a model, tasks and protocols. `brief` rows are for people, others for programs."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpuday import presets
from gpuday.cli.changed import changed
from gpuday.core import parts
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError, nearest
from gpuday.core.explained import Knob, knobs, papers, plain, settings, slots, summary, written
from gpuday.evaluate.protocols import PROTOCOLS, Protocol
from gpuday.evaluate.tasks.selection import BY_NAME
from gpuday.models.encoder import EncoderConfig
from gpuday.recipe import KINDS, Recipe
from gpuday.report.formats import duration
from gpuday.report.formats import plain as spaced
from gpuday.report.tables import list_runs

Row = dict[str, Any]
USUAL = {"schedule": "rate"}  # of a kind with several places the one whose keys are shown
SHOWN_SIZE, SHOWN_BUDGET = (
    "base",
    Budget.parse("24h"),
)  # of the presets beside the axes: what a size decides is as large


def runs(folder: Path) -> list[Row]:
    """A row for every run in a folder."""
    return list_runs(folder, changed)


def in_brief(rows: list[Row]) -> tuple[str, list[Row]]:
    """(title, rows) of runs for people: what all of them are and change stands in the title alone, and a column in which
    none has anything is left out."""
    told = [row["changed"] for row in rows if row["changed"] is not None] if len(rows) > 1 else []
    shared = [change for change in told[0] if all(change in other for other in told)] if told else []
    alike = [key for key in ("size", "budget") if len(rows) > 1 and len({row[key] for row in rows}) == 1]
    found = [_run_in_brief(row, shared, alike) for row in rows]
    kept = [key for key in (found[0] if found else ()) if any(row[key] not in (None, "") for row in found)]
    common = " ".join([*(str(rows[0][key]) for key in alike if rows[0][key]), *shared])
    return f"runs, all with {common}" if common else "runs", [{key: row[key] for key in kept} for row in found]


def places() -> dict[str, str]:
    """The kind of part that a recipe has at each key, `batch.ramp`, and at its last name where no other ends so, `ramp`."""
    whole = {key: _kind_name(kind) for key, kind, _ in slots(Recipe)}
    last = [key.rpartition(".")[2] for key in whole]
    short = {key.rpartition(".")[2]: kind for key, kind in whole.items() if last.count(key.rpartition(".")[2]) == 1}
    return {**short, **whole}


def kind_of(what: str) -> str:
    """The kind of part that was asked for by its name, or by a place of the recipe."""
    return what if what in KINDS else places()[what]


def meant(name: str) -> str:
    """What to type for a part that is asked for without its kind; "" where none is called so."""
    kinds = [kind for kind, part in KINDS.items() if name in parts.names(part)]
    return " or ".join(f"gpuday list {kind} {name}" for kind in kinds)


def choices_of(what: str) -> list[Row]:
    """A line for each part of a kind, or that may stand at a place of the recipe: how it is chosen, what it is, its paper."""
    kind = kind_of(what)
    key, several = _place(what, kind)
    lines = (
        next(_lines(name, parts.find(KINDS[kind], name), key, several=several)) for name in parts.names(KINDS[kind])
    )
    return [{key: value for key, value in line.items() if key != "values"} for line in lines]


def parts_of(what: str, name: str | None = None, *, brief: bool) -> list[Row]:
    """The parts of a kind, or those that may stand at a place of the recipe, with their knobs and the keys of these; the one
    that is named, or all. Raises UsageError for a name that none has."""
    kind = kind_of(what)
    key, several = _place(what, kind)
    names = parts.names(KINDS[kind])
    if name is not None and name not in names:
        raise UsageError(f"no {kind} is called {name!r}", where=f"list {what}", fix=nearest(name, names))
    known = [(n, parts.find(KINDS[kind], n)) for n in names if name in (None, n)]
    if brief:
        return [row for name, part in known for row in _lines(name, part, key, several=several)]
    return [_part(kind, part) | {"knobs": [_knob(k) for k in _settings(part, key, several)]} for _, part in known]


def overview() -> list[Row]:
    """The parts of all kinds, without their knobs."""
    return [_part(name, parts.find(kind, part)) for name, kind in KINDS.items() for part in parts.names(kind)]


def tasks() -> list[Row]:
    """The downstream tasks that `--tasks` takes, companions beneath their own."""
    known = [(task, each) for task in BY_NAME.values() for each in (task, *task.companions)]
    return [
        {
            "task": each.name,
            "suite": each.suite,
            "kind": each.kind,
            "metrics": ", ".join(each.metrics),
            "in mean": each.in_mean,
            "scored with": "" if each is task else task.name,
            "source": each.citation or task.citation,
        }
        for task, each in known
    ]


def protocols() -> list[Row]:
    """The settings that `--protocol` takes, those of a sweep by the range of what is tried."""
    keys = ("epochs", "batch", "rows", "seeds", "max_tokens", "head")
    return [
        {"protocol": name, "rate": _range(p, "lr"), **{k: getattr(p, k) for k in keys}, "epochs": _range(p, "epochs")}
        for name, p in PROTOCOLS.items()
    ]


def _range(protocol: Protocol, key: str) -> str:
    """`4e-05`, or `1e-05 to 8e-05`."""
    tried = [
        getattr(setting, key)
        for task in ("", *getattr(protocol.sweep, "few", ()))
        for setting in protocol.settings(task)
    ]
    return f"{min(tried):g}" if len({*tried}) == 1 else f"{min(tried):g} to {max(tried):g}"


def axes(*, brief: bool) -> list[Row]:
    """The axes of a model: what an encoder has by itself, and the presets that have something else."""
    rows = []
    for knob in knobs(EncoderConfig):
        others = _others(knob)
        row = _knob(knob) | {"key": f"model.{knob.name}", "presets": others}
        rows.append(_knob_in_brief(row) | {"presets": _grouped(others)} if brief else row)
    return rows


def _run_in_brief(row: Row, shared: list[str], alike: list[str]) -> Row:
    recipe = " ".join(str(row[key]) for key in ("preset", "size", "budget") if row[key] and key not in alike)
    told = row["changed"]
    used = "" if row["used_seconds"] is None else f" {spaced(duration(row['used_seconds']))}"
    return {
        "name": row["name"],
        "recipe": recipe,
        "changed": "" if told is None else " ".join(change for change in told if change not in shared),
        "nats": row["nats_per_token"],
        "word bits": row["word_bits_per_byte"],
        "means": " ".join(f"{name} {mean:.4g}" for name, mean in row["mean_scores"].items()),
        "status": f"{row['status']}{used}",
        "nats do not compare": row.get("problem", row["not_comparable"]),
    }


def _place(what: str, kind: str) -> tuple[str, bool]:
    """The key below which a kind's knobs are set, and whether there is a list of its parts; "" for what no key holds."""
    of_kind = [(key, several) for key, found, several in slots(Recipe) if _kind_name(found) == kind]
    asked = [place for place in of_kind if what != kind and (place[0] == what or place[0].endswith(f".{what}"))]
    usual = [place for place in of_kind if place[0] == USUAL.get(kind)]
    return next(iter([*asked, *usual, *of_kind]), ("", False))


def _kind_name(kind: type[parts.Part]) -> str:
    return next(name for name, known in KINDS.items() if known is kind)


def _part(kind: str, part: type[parts.Part]) -> Row:
    return {"kind": kind, "part": parts.name_of(part), "what": summary(part), "source": list(papers(part))}


def _settings(part: type[parts.Part], key: str, several: bool) -> Iterator[Knob]:
    """Those of a part in a list have no keys of their own: they stand in its table."""
    return settings(part, where="" if several else key)


def _lines(name: str, part: type[parts.Part], key: str, *, several: bool) -> Iterator[Row]:
    """A line that chooses the part, and one for each of its knobs, as they are typed behind `--set`."""
    chosen = written([{"part": name}]) if several else name
    about = f"{summary(part)} {'; '.join(papers(part))}".strip()
    yield {"--set": f"{key}={chosen}" if key else name, "values": "", "what": about}
    yield from (_knob_in_brief(_knob(knob)) for knob in _settings(part, key, several))


def _knob(knob: Knob) -> Row:
    values = list(knob.values) or knob.type
    return {"key": knob.name, "default": plain(knob.default), "values": values, "what": knob.what}


def _knob_in_brief(row: Row) -> Row:
    values = row["values"] if isinstance(row["values"], str) else ", ".join(map(written, row["values"]))
    default = "" if row["default"] is None else written(row["default"])
    return {"--set": f"{row['key']}={default}", "values": values, "what": row["what"]}


def _others(axis: Knob) -> dict[str, Any]:
    """What the presets have that have not the default; of a part its name, whatever its knobs."""
    values = {name: plain(getattr(model, axis.name)) for name, model in _models()}
    return {name: value for name, value in values.items() if value != plain(axis.default)}


def _grouped(values: dict[str, Any]) -> str:
    """`learned: bert, izsak; scaled_sinusoidal: crammed`."""
    shown = {name: written(value) for name, value in values.items()}
    by_value = {value: ", ".join(n for n, v in shown.items() if v == value) for value in shown.values()}
    return "; ".join(f"{value}: {names}" for value, names in by_value.items())


@functools.cache
def _models() -> tuple[tuple[str, EncoderConfig], ...]:
    return tuple((name, presets.find(name)(SHOWN_SIZE, SHOWN_BUDGET).model) for name in presets.names())
