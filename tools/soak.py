"""What continuous integration has no time for: `python tools/soak.py [--only PART] [--count N] [--seed S] [--workers W]`.

Each part is a function of tests/faults, called in batches, each batch in a process and a folder of its own. One JSON line
tells each batch, the last one the sums, the machine and the revision. A batch that is done is not made again when the same
command is given again. Exit code 1 on any failure, which then says with which seed it repeats; 75 where time ran out.
"""

import argparse
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gpuday.core.environment import source_revision

ROOT = Path(__file__).resolve().parents[1]
FAULTS = ROOT / "tests" / "faults"
BATCH_SECONDS = 3600.0  # after which a batch counts as hanging


@dataclass(frozen=True)
class Part:
    """`function(seed, count, folder, **options)` of a module in tests/faults; it returns {count, failures, ...}."""

    module: str
    function: str
    cases: int
    batch: int
    """Cases of one call."""
    quick: dict[str, Any]
    """Options with which `--quick` makes one short batch of `quick_cases`."""
    quick_cases: int


PARTS = {
    "kills": Part("campaigns", "kills", cases=500, batch=12, quick={"command": "train", "steps": 8}, quick_cases=1),
    "fuzz": Part("soaking", "fuzz", cases=100_000, batch=5_000, quick={}, quick_cases=200),
    "rot": Part("soaking", "rot", cases=10_000, batch=1_000, quick={}, quick_cases=100),
    "save points": Part("soaking", "save_points", cases=20, batch=1, quick={}, quick_cases=1),
}


class Batch(NamedTuple):
    """What one process does."""

    part: str
    seed: int
    cases: int
    quick: bool = False


def batches(part: str, seed: int, cases: int | None, *, quick: bool) -> Iterator[Batch]:
    """So many cases, by default the part's own number, in batches whose seeds follow each other."""
    size = PARTS[part].batch
    cases = cases or (PARTS[part].quick_cases if quick else PARTS[part].cases)
    for number, first in enumerate(range(0, cases, size)):
        yield Batch(part, seed + number, min(size, cases - first), quick)


def perform(module: str, function: str, *arguments: Any, **options: Any) -> None:
    """Make a batch in this process, and print its report."""
    print(json.dumps(getattr(importlib.import_module(module), function)(*arguments, **options)))


def start(batch: Batch, out: Path) -> dict[str, Any]:
    """Make a batch in a process of its own; one that crashes or hangs is a failure like any other."""
    part, began = PARTS[batch.part], time.monotonic()
    folder = out / batch.part.replace(" ", "-") / f"batch-{batch.seed}-{batch.cases}"
    shutil.rmtree(folder, ignore_errors=True)  # of a soak that was stopped
    folder.mkdir(parents=True)
    call = [part.module, part.function, batch.seed, batch.cases, str(folder)]
    command = [sys.executable, __file__, "--batch", json.dumps([call, part.quick if batch.quick else {}])]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{FAULTS}", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=BATCH_SECONDS, check=False
        )
        report = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        report = {"count": 0, "failures": [f"seed {batch.seed}: not done after {BATCH_SECONDS:.0f} s"]}
    except (ValueError, IndexError):
        report = {"count": 0, "failures": [f"seed {batch.seed}: ended with {done.returncode}: {done.stderr[-2000:]}"]}
    if not report["failures"]:
        shutil.rmtree(folder)
    return {**batch._asdict(), **report, "seconds": round(time.monotonic() - began, 3), "revision": source_revision()}


def summary(lines: list[dict[str, Any]], seconds: float, workers: int) -> dict[str, Any]:
    """The sums by part: cases, batches, their seconds, failures, and whatever else a part counts by name."""
    parts: dict[str, Any] = {}
    for line in lines:
        row = parts.setdefault(line["part"], {"count": 0, "batches": 0, "seconds": 0.0, "failures": 0})
        row["count"] += line["count"]
        row["batches"] += 1
        row["seconds"] = round(row["seconds"] + line["seconds"], 3)
        row["failures"] += len(line["failures"])
        for key, value in line.items():
            if isinstance(value, dict):
                row[key] = dict(Counter(row.get(key, {})) + Counter(value))
            elif key not in {*Batch._fields, "count", "seconds"} and isinstance(value, int):
                row[key] = row.get(key, 0) + value
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}"
    return {
        "summary": parts,
        "seconds": round(seconds, 1),
        "workers": workers,
        "machine": machine,
        "revision": source_revision(),
    }


def soak(wanted: list[Batch], out: Path, *, workers: int, seconds: float) -> int:
    """Make the batches that are not yet done; the exit code."""
    out.mkdir(parents=True, exist_ok=True)
    record, began, writing = out / "soak.jsonl", time.monotonic(), threading.Lock()
    known = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    revision = source_revision()
    done = {
        Batch(*(line[name] for name in Batch._fields)): line
        for line in known
        if line["revision"] == revision and not line["failures"]
    }

    def make(batch: Batch) -> dict[str, Any] | None:
        if batch in done:
            return done[batch]
        if time.monotonic() - began > seconds:
            return None
        line = start(batch, out)
        with writing, open(record, "a") as file:
            print(json.dumps(line), file=file, flush=True)
            print(json.dumps(line), flush=True)
        return line

    with ThreadPoolExecutor(workers) as pool:
        lines = list(pool.map(make, wanted))
    made = [line for line in lines if line is not None]
    print(json.dumps(summary(made, time.monotonic() - began, workers)), flush=True)
    if any(line["failures"] for line in made):
        return 1
    return 0 if len(made) == len(wanted) else 75


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="a part; repeat it for more [all]")
    parser.add_argument("--count", type=int, help="cases of each part [its own number]")
    parser.add_argument("--quick", action="store_true", help="one short batch of each part")
    parser.add_argument("--seed", type=int, default=0, help="of the first batch")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="batches beside each other")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no batch after so many")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="folder for soak.jsonl and what failed")
    parser.add_argument("--batch", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.batch:
        (module, function, seed, cases, folder), options = json.loads(given.batch)
        perform(module, function, seed, cases, Path(folder), **options)
        return 0
    wanted = [b for part in given.only or PARTS for b in batches(part, given.seed, given.count, quick=given.quick)]
    return soak(wanted, given.out.resolve(), workers=given.workers, seconds=given.seconds)


if __name__ == "__main__":
    sys.exit(main())
