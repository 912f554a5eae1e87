"""Runs as plain data, for `gpuday list` and `gpuday show`."""

from pathlib import Path
from typing import Any

from gpuday.core.errors import DataError
from gpuday.core.rundir import RunDir
from gpuday.report import formats, overview
from gpuday.report.load import RunRecord, is_run, load_run

POINTS = 2  # a table needs the ends of the curve only


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """A row for every run directly inside a folder, by name; a damaged run is a row that says so."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", fix="give the folder that holds the runs, such as runs")
    return [_row(run) for run in sorted(folder.iterdir()) if run.is_dir() and is_run(run)]


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


def _row(run: Path) -> dict[str, Any]:
    try:
        return _headline(load_run(run, points=POINTS))
    except DataError as error:
        empty = dict.fromkeys(("preset", "size", "budget", "used_seconds", "nats_per_token", "mean_score"))
        return {"name": run.name, **empty, "status": "damaged", "problem": error.what}


def _headline(record: RunRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "preset": record.recipe.get("preset"),
        "size": record.recipe.get("size", record.section("model").get("size")),
        "budget": formats.plain(overview.budget_text(record)),
        "used_seconds": record.used_seconds,
        "nats_per_token": overview.before_and_after(record)[1],
        "mean_score": record.section("scores").get("mean"),
        "status": record.state,
    }
