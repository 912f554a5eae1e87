"""Seconds until something happens: `gpuday --help`, the first optimizer step, the first checkpoint.

Every measurement is a process of its own. The runs read made-up text that is prepared before, so that training alone
is timed; compiled ones once with an empty compiler cache and once more with the cache that the first has filled.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Record, Spread, parser

COMMAND = [sys.executable, "-m", "gpuday"]
TINY = {"model.width": "64", "model.shape.layers": "1", "model.mixer.head_width": "32", "data.vocab": "512"}


def main() -> None:
    """Help, then tiny and nano runs."""
    arguments = parser(__doc__, runs="tiny,nano").parse_args()
    record = Record("startup", arguments.out)
    record.add("help", shape={}, figures=help_seconds(rounds=3 if arguments.quick else 7))
    modes = ("eager", "compiled cold", "compiled warm")
    for run in arguments.runs[: 1 if arguments.quick else None]:
        with tempfile.TemporaryDirectory() as scratch:
            first_events(run, "eager", Path(scratch))  # prepares the data and fills the disk's cache
            for mode in modes:
                figures = first_events(run, mode, Path(scratch))
                record.add(f"{run} {mode}", shape={"run": run, "mode": mode}, figures=figures)
    record.table()


def help_seconds(*, rounds: int) -> dict[str, Spread]:
    """Wall clock and processor seconds of `gpuday --help`."""
    wall, processor = [], []
    for _ in range(1 + rounds):
        before, start = _children_seconds(), time.perf_counter()
        subprocess.run([*COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL)
        wall.append(time.perf_counter() - start)
        processor.append(_children_seconds() - before)
    return {"wall_seconds": Spread.of(wall[1:]), "cpu_seconds": Spread.of(processor[1:])}


def first_events(run: str, mode: str, scratch: Path) -> dict[str, float]:
    """Seconds from the start of the process to its first checkpoint, first step and end, of a run of three steps."""
    if mode == "compiled cold":
        shutil.rmtree(scratch / "kernels", ignore_errors=True)
    folder = scratch / "run"
    shutil.rmtree(folder, ignore_errors=True)
    environment = {
        **os.environ,
        "GPUDAY_CACHE": os.fspath(scratch / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": os.fspath(scratch / "kernels"),
    }
    settings = {"train.compile": '"off"' if mode == "eager" else '"on"', "batch.rows": "32"}
    settings |= TINY if run == "tiny" else {}
    command = [
        *COMMAND,
        "train",
        "modern",
        "--size",
        "nano",
        "--budget",
        "3steps",
        "--json",
        "--out",
        os.fspath(folder),
    ]
    command += ["--corpus", "synthetic:200000"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    times: dict[str, float] = {}
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)["event"]
            if event == "validation" and "looked" not in times:
                times["looked"] = time.perf_counter() - start
            if event == "step" and "first_step" not in times:
                times["first_step"] = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    times["end"] = time.perf_counter() - start
    rows = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    began = times["looked"] - next(row["seconds"] for row in rows if row["kind"] == "validation")
    saved = began + next(row["seconds"] for row in rows if row["kind"] == "checkpoint")
    return {
        "training_starts_seconds": began,
        "first_checkpoint_seconds": saved,
        "first_step_seconds": times["first_step"],
        "three_steps_seconds": times["end"],
    }


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
