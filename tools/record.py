"""Copy what proves a run's figures into records/<date>_<name>/<run>/: `python tools/record.py NAME RUN [RUN ...]`.

Taken are recipe, environment, fit, journal, summary and scores; weights, data and the page can be made again. Refused
are files that name a folder of this machine, since a record is read elsewhere.
"""

import json
import re
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

FILES = ("recipe.json", "environment.json", "fit.json", "journal.jsonl", "summary.json")
MACHINE_PATH = re.compile(r'"/(?!\*)[A-Za-z]')


def record(name: str, runs: list[Path], root: Path) -> Path:
    """Copy each run under one dated folder. Raises SystemExit naming a file that is missing or holds an absolute path."""
    folder = root / "records" / f"{datetime.now(tz=UTC):%Y-%m-%d}_{name}"
    for run in runs:
        sources = [run / file for file in FILES] + sorted((run / "scores").glob("*/*/*.json"))
        for source in sources:
            if not source.is_file():
                raise SystemExit(f"{source} is missing: is {run} a finished run?")
            if MACHINE_PATH.search(source.read_text()):
                raise SystemExit(f"{source} names a folder of this machine: run with relative paths")
            target = folder / run.name / source.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return folder


def main() -> None:
    """Record the runs named on the command line and print each one's headline."""
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    runs = [Path(argument) for argument in sys.argv[2:]]
    print(record(sys.argv[1], runs, Path(__file__).resolve().parents[1]))
    for run in runs:
        summary = json.loads((run / "summary.json").read_text())
        print(
            run.name, summary["heldout"]["nats_per_token"], summary["train"]["tokens"], summary["clock"]["used_seconds"]
        )


if __name__ == "__main__":
    main()
