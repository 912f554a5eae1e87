"""Seconds from a signal to the end of a run, in every phase of it: what a cluster's notice has to allow for.

For each size and signal a run is interrupted in each phase in turn, and gone on with by the same command. There are two
runs: one of long steps, compiled anew, with checkpoints minutes apart, up to and within those; one of short steps, that looks
and saves after each, from there to its end; only where fine-tuning is to be interrupted is it given a task. A phase that was over before the signal could be sent is recorded as missed.
"""

import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import Record, parser
from watched import Phase, Watched, left_over

HUNG = 60.0  # seconds until a process that was asked to end is killed
LONG_STEP_ROWS = {"nano": 768, "micro": 256}  # about 7 s of two cores, in micro-batches of 16
SHORT_STEPS = 6
RUNS = {
    "long": "--budget 20steps --set batch.rows={rows} --set train.microbatch=16",
    "short": f"--budget {SHORT_STEPS}steps --set batch.rows=32 --set train.microbatch=16 "
    "--set train.validate_every=0.00001 --set train.save_every_seconds=0.001",
}
BOTH = "run modern --corpus synthetic:20000000 --set train.compile=on --task-rows 500 --json"
LAST_SAVE = f"{{run}}/checkpoints/step-{SHORT_STEPS:08d}"  # the last step is saved before the final look

PHASES = (
    Phase("start-up", "long", until="run", delay=1.0, fresh="cache/data"),
    Phase("reading", "long", "stage", "tokenizer", values={"stage": "count"}, delay=0.3),
    Phase("tokenizer", "long", "stage", "encode", values={"stage": "tokenizer"}, delay=1.5),
    Phase("encoding", "long", "stage", "heldout", values={"stage": "encode"}, delay=0.3),
    Phase("fitting", "long", "prepared", "fit", delay=2.0, fresh="cache/fit"),
    Phase("trial of compiling", "long", "run", "fit", delay=10.0, appears="tmp/*/*/*.cpp", fresh="cache/fit"),
    Phase("building", "long", "fit", "start", delay=0.05),
    Phase("first look", "long", "start", "validation", delay=0.05),
    Phase(
        "compiling the first step", "long", "validation", "step", delay=2.0, appears="kernels/*/*.cpp", fresh="kernels"
    ),
    Phase("between steps", "long", "step", "validation"),
    Phase("in a long step", "long", "step", "validation", delay=2.0),
    Phase("looking", "short", "step", "validation", delay=0.02),
    Phase("saving", "short", "step", "trained", appears="{run}/checkpoints/.tmp-*"),
    Phase("final look", "short", "step", "validation", values={"step": SHORT_STEPS}, delay=0.05, appears=LAST_SAVE),
    Phase("final save", "short", "validation", "trained", values={"final": True}, appears="{run}/checkpoints/.tmp-*"),
    Phase("word bits", "short", "trained", "heldout", delay=0.3),
    Phase("reading a task", "short", "heldout", "epoch", delay=1.0, tasks="pydocs"),
    Phase("fine-tuning", "short", "epoch", "score", tasks="pydocs"),
    Phase("exporting", "short", "heldout", "export", appears="{run}/.model.new"),
    Phase("reporting", "short", "export", "report", delay=0.05),
    Phase("to the end", "short"),
)
QUICK = ("first look", "compiling the first step", "in a long step", "saving", "final look")


def main() -> None:
    """Every phase of every run; the quick mode takes what trains, nano and one signal."""
    every = ",".join(phase.name for phase in PHASES)
    arguments = parser(__doc__, sizes="nano,micro", signals="SIGTERM,SIGINT,SIGUSR1", phases=every).parse_args()
    wanted = QUICK if arguments.quick else arguments.phases
    record = Record("signals", arguments.out)
    # A script's job in the background ignores SIGINT, and so would the runs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for size in arguments.sizes[: 1 if arguments.quick else None]:
        with tempfile.TemporaryDirectory() as scratch:
            for name in arguments.signals[: 1 if arguments.quick else None]:
                for phase in PHASES:
                    if phase.name in wanted:
                        figures = interrupted(size, phase, signal.Signals[name], Path(scratch))
                        shape = {"size": size, "signal": name, "phase": phase.name}
                        record.add(f"{size} {name} {phase.name}", shape=shape, figures=figures)
    record.table()


def interrupted(size: str, phase: Phase, number: signal.Signals, scratch: Path) -> dict[str, Any]:
    """One start of a run's command, and how it ended when the signal came in its phase."""
    if phase.fresh:
        shutil.rmtree(scratch / phase.fresh, ignore_errors=True)
    run = f"runs/{number.name}-{phase.run}"
    what = f"{BOTH} --size {size} {RUNS[phase.run].format(rows=LONG_STEP_ROWS.get(size, 64))}"
    words = f"{what} --tasks {phase.tasks} --out {run}".split()
    figures = ended([sys.executable, "-m", "gpuday", *words], phase, number, scratch, scratch / run)
    return {**figures, "load": round(os.getloadavg()[0], 1)}


def ended(command: Sequence[str], phase: Phase, number: signal.Signals, scratch: Path, run: Path) -> dict[str, Any]:
    """Start a command, send it the signal in its phase, and see how it ends, what it says and what it leaves."""
    watched = Watched(command, scratch)
    met = watched.reaches(phase, run.relative_to(scratch).as_posix())
    if not met:
        code = watched.code(0.0 if phase.until else HUNG)
        return {"code": code} if not phase.until else {"missed": True, "code": code, "last_event": watched.last_event()}
    children, start = watched.process.children(recursive=True), time.perf_counter()
    watched.process.send_signal(number)
    code = watched.code(HUNG)
    seconds = time.perf_counter() - start
    said = watched.said()
    return {
        "seconds": seconds,
        "code": code,
        "last_step": last_step(run),
        "saved_step": saved_step(run),
        "holds_command": shlex.join(["gpuday", *command[3:]]) in said,
        "traceback": "Traceback" in said,
        "left": left_over(watched.process.pid, children),
    }


def last_step(run: Path) -> int | None:
    """The last step in the journal; None where there is no journal."""
    if not (run / "journal.jsonl").exists():
        return None
    rows = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return max((row["step"] for row in rows if row["kind"] == "step"), default=0)


def saved_step(run: Path) -> int | None:
    """The step of the checkpoint that LATEST names; None where there is none."""
    latest = run / "checkpoints" / "LATEST"
    return int(json.loads(latest.read_text())["content"]["folder"].partition("-")[2]) if latest.exists() else None


if __name__ == "__main__":
    main()
