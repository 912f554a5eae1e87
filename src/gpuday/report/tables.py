"""Runs as plain data, for `gpuday list` and `gpuday show`."""

from pathlib import Path
from typing import Any

from gpuday.core.errors import DataError
from gpuday.core.rundir import RunDir
from gpuday.report import comparing, formats, overview
from gpuday.report.load import RunRecord, is_run, load_run
from gpuday.report.overview import Changed

POINTS = 2  # a table needs the ends of the curve only
HEADLINE = (
    "name",
    "preset",
    "size",
    "budget",
    "used_seconds",
    "nats_per_token",
    "word_bits_per_byte",
    "mean_scores",
    "status",
)


def list_runs(folder: Path, changed: Changed) -> list[dict[str, Any]]:
    """A row for every run directly inside a folder, by name; a damaged run is a row that says so.

    `not_comparable` says why a run's held-out nats do not compare with those of most others; None where they do.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", fix="give the folder that holds the runs, such as runs")
    found = [_load(run) for run in sorted(folder.iterdir()) if run.is_dir() and is_run(run)]
    apart = comparing.apart([record for record in found if isinstance(record, RunRecord)])
    rows = []
    for record in found:
        if isinstance(record, RunRecord):
            told = {"changed": changed(record.recipe), "not_comparable": apart.get(record.name)}
            rows.append(_headline(record) | told)
        else:
            rows.append(record)
    return rows


def show_run(run: Path) -> dict[str, Any]:
    """What a person asks about one run first, as JSON values. Raises DataError for a damaged run."""
    record = load_run(run, points=POINTS)
    report = RunDir(run).report
    sections = {name: record.section(name) for name in ("model", "train", "clock", "heldout", "scores", "export")}
    return {
        **_headline(record),
        "verdict": formats.plain(overview.verdict(record)),
        "seed": record.recipe.get("seed", record.summary.get("seed")),
        "recipe_fingerprint": record.summary.get("recipe_fingerprint"),
        "device": record.summary.get("device"),
        **sections,
        "compliance": record.section("compliance"),
        "energy_joules": record.summary.get("energy_joules"),
        "attempts": len(record.attempts),
        "steps_redone": record.steps_made - record.steps_kept,
        "notes": [{"step": note.step, "message": note.message} for note in record.notes],
        "samples": len(record.samples),
        "command": record.summary.get("command"),
        "report": str(report) if report.exists() else None,
    }


def _load(run: Path) -> RunRecord | dict[str, Any]:
    """The record of a run, or the row of one that is damaged."""
    try:
        return load_run(run, points=POINTS)
    except DataError as error:
        empty: dict[str, Any] = dict.fromkeys((*HEADLINE, "changed", "not_comparable"))
        return {**empty, "name": run.name, "mean_scores": {}, "status": "damaged", "problem": error.what}


def _headline(record: RunRecord) -> dict[str, Any]:
    bits = record.section("heldout").get("word_bits_per_byte")
    values = (
        record.name,
        record.recipe.get("preset"),
        record.recipe.get("size", record.section("model").get("size")),
        formats.plain(overview.budget_text(record)),
        record.used_seconds,
        overview.before_and_after(record)[1],
        bits if formats.is_number(bits) else None,
        overview.mean_scores(record),
        record.state,
    )
    return dict(zip(HEADLINE, values, strict=True))
