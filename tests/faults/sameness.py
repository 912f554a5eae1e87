"""What a run that was killed must share with one that was not: everything but the times, and nothing is left behind."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpuday.core.journal import Checkpoint, Start, Step, Validation, read, surviving
from gpuday.core.rundir import RunDir, read_json
from gpuday.train.checkpoint import Saved, load_newest

TIMES = {
    *("seconds", "used_seconds", "ledger", "device_seconds", "tokens_per_second", "tokens_per_second_overall"),
    *("useful_flops_per_second", "bound_flops_per_second", "bound_share", "data_wait_share", "examples_per_second"),
    *("resumes", "attempts", "tokens_processed", "energy_reason", "compilations", "compile_cache", "3 budget"),
    "checksum",  # of a JSON file that holds seconds, too
}


def differences(whole: Path, killed: Path) -> Iterator[str]:
    """Each way in which the run of a place that was killed differs from that of an undisturbed one, in words."""
    a, b = (RunDir(place / "runs" / "one") for place in (whole, killed))
    yield from _unequal("checkpoint", _weights(a), _weights(b))
    yield from _unequal("summary.json", timeless(read_json(a.summary)), timeless(read_json(b.summary)))
    yield from _unequal("scores", _contents(a.scores), _contents(b.scores))
    yield from _unequal("model/", _contents(a.model), _contents(b.model))
    yield from _unequal("data/", _contents(a.data), _contents(b.data))
    yield from _unequal("cache/data/", _contents(whole / "cache" / "data"), _contents(killed / "cache" / "data"))
    yield from _unequal("steps", _losses(a), _losses(b))
    yield from _unequal("report.html", a.report.exists(), b.report.exists())
    yield from leftovers(killed)
    yield from journal_faults(b)


def leftovers(place: Path) -> Iterator[str]:
    """Half-written files and folders in the run and in the cache. Locks are kept: who waits for one holds it open."""
    for top in ("runs", "cache"):
        for folder, folders, files in os.walk(place / top):
            for name in (*folders, *files):
                if name.startswith(".") and not name.endswith(".lock"):
                    yield f"left behind: {Path(folder, name).relative_to(place)}"


def journal_faults(run: RunDir) -> Iterator[str]:
    """Work made again beyond the last save; rows that survive twice or not at all; seconds that are not in the ledger."""
    saved = 0
    for _, row in read(run.journal):
        if isinstance(row, Start) and row.step < saved:
            yield f"resumed at step {row.step}, although step {saved} was saved"
        if isinstance(row, Start | Checkpoint):
            saved = row.step
    kept = surviving(run.journal)
    steps = [row for row in kept if isinstance(row, Step)]
    if [row.step for row in steps] != list(range(1, len(steps) + 1)):
        yield f"surviving steps are {[row.step for row in steps]}"
    for before, row in itertools.pairwise(steps):
        if row.first_row != before.first_row + before.rows:
            yield f"step {row.step} begins at row {row.first_row}, not {before.first_row + before.rows}"
    finals = [row for row in kept if isinstance(row, Validation) and row.final]
    if len(finals) != 1:
        yield f"{len(finals)} final looks survive"
    clock = read_json(run.summary)["clock"]
    if abs(sum(clock["ledger"].values()) - clock["used_seconds"]) > 1e-6:
        yield f"the ledger's rows do not add up to {clock['used_seconds']} s: {clock['ledger']}"


def newest(run: RunDir) -> Saved:
    """The newest checkpoint, which must be whole without anything set aside."""
    warnings: list[str] = []
    saved = load_newest(run.checkpoints, warn=warnings.append)
    if saved is None or warnings:
        raise AssertionError(f"no good checkpoint in {run.root}: {warnings}")
    return saved


def timeless(value: Any) -> Any:
    """JSON values without those that tell of time or of attempts."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def _weights(run: RunDir) -> dict[str, Any]:
    saved = newest(run)
    files = {name: (saved.folder / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")}
    return {"folder": saved.folder.name, **files, **timeless(saved.state["progress"])}


def _contents(root: Path) -> dict[str, Any]:
    """What a folder holds by path; JSON without its times, and without the model's card, which tells them in words."""
    found = (Path(folder, name) for folder, _, names in os.walk(root, followlinks=True) for name in names)
    return {
        str(path.relative_to(root)): timeless(read_json(path)) if path.suffix == ".json" else path.read_bytes()
        for path in found
        if path.name != "README.md"
    }


def _losses(run: RunDir) -> dict[str, Any]:
    rows = (row for row in surviving(run.journal) if isinstance(row, Step))
    return {f"step {r.step}": (r.loss, r.gradient_norm, r.masked, r.rows, r.first_row, r.fraction) for r in rows}


def _unequal(where: str, a: Any, b: Any) -> Iterator[str]:
    """The keys in which two values differ, to the innermost."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            if key not in a or key not in b:
                yield f"{where} {key}: only in the {'killed' if key in b else 'undisturbed'} run"
            else:
                yield from _unequal(f"{where} {key}", a[key], b[key])
    elif a != b:
        shown = (f"{len(v)} bytes" if isinstance(v, bytes) else repr(v)[:120] for v in (a, b))
        yield f"{where}: " + " became ".join(shown)
