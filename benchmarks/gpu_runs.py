"""Whole trainings for `gpu.py`, made from the library's own parts, so that the command line's packages are not needed."""

import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpuday.core import config
from gpuday.core.clock import LOST, Budget
from gpuday.core.journal import Checkpoint, Start, Step, Validation, surviving
from gpuday.core.rundir import RunDir, read_json
from gpuday.data.prepare import PreparedData, prepare
from gpuday.presets import find
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner, vocabulary_of
from gpuday.train.checkpoint import load_newest
from gpuday.train.device import EnergyMeter, pick_device
from gpuday.train.fit import Fit, fit
from gpuday.train.loop import train
from gpuday.train.summary import sections

SAVE_SECONDS = 5.0  # where a run is killed: something is to be resumed from
LATE_SHARE = 0.02  # of its budget, that a run may end beside it, beyond a step


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is trained where; strings and paths alone, so that a child process can be told."""

    preset: str
    size: str
    budget: str
    corpus: str
    compile: str
    folder: Path
    save_every_seconds: float = 120.0
    validate_every: float = 0.1
    tokenizer: str = ""
    """Path of a tokenizer.json to share; empty trains the preset's own."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """An arm with its data prepared and its fit measured."""

    recipe: Recipe
    data: PreparedData
    run: RunDir
    fit: Fit


def make_arm(name: str, arm: Arm) -> Ready:
    """Prepare and fit; both are found in the arm's folder the second time."""
    recipe = find(arm.preset)(arm.size, Budget.parse(arm.budget))
    changes: dict[str, Any] = {
        "data.corpus": [arm.corpus],
        "train.compile": arm.compile,
        "train.save_every_seconds": arm.save_every_seconds,
        "train.validate_every": arm.validate_every,
    }
    if arm.tokenizer:
        changes["data.tokenizer"] = arm.tokenizer
    for key, value in changes.items():
        recipe = config.replace_at(recipe, key, value)
    data = prepare(recipe.data, arm.folder / "cache")
    vocabulary = vocabulary_of(data.tokenizer)
    run = RunDir(arm.folder / name)
    fitted = fit(
        recipe,
        device=pick_device(),
        make_learner=lambda: make_learner(recipe, vocab=vocabulary.size),
        vocabulary=vocabulary,
        heldout_rows=len(data.heldout),
        pinned=run.fit,
        cache=arm.folder / "fits",
    )
    return Ready(recipe=recipe, data=data, run=run, fit=fitted)


def run_training(ready: Ready) -> dict[str, Any]:
    """Train to the end of the budget; the sections of the summary."""
    device = pick_device()
    energy = EnergyMeter(device)
    progress, clock = train(
        ready.recipe, ready.data, ready.run, ready.fit, device=device, tell=lambda event, /, **values: None
    )
    return sections(ready.recipe, ready.data, ready.run, ready.fit, progress, clock, energy)


def equal_loss(arm: Arm) -> dict[str, Any]:
    """Crammed and modern on the same text, tokenizer, held-out rows and seconds, each at its preset's own rate.

    `modern_seconds_to_crammed`: after which modern's looks at the held-out text, an eighth of its rows, were at or below
    where crammed ended.
    """
    arm = dataclasses.replace(arm, validate_every=0.05)
    first = make_arm("modern", arm)
    shared = dataclasses.replace(arm, preset="crammed", tokenizer=str(first.data.folder / "tokenizer.json"))
    arms = {"crammed": make_arm("crammed", shared), "modern": first}
    rows = min(ready.fit.heldout_rows for ready in arms.values())
    answer: dict[str, Any] = {"budget": arm.budget, "corpus": arm.corpus, "heldout_rows": rows}
    for name, ready in arms.items():
        ready = dataclasses.replace(ready, fit=dataclasses.replace(ready.fit, heldout_rows=rows))
        summary = run_training(ready)
        torch.compiler.reset()
        keys = ("tokens", "steps", "tokens_per_second", "bound_share", "compile_cache")
        answer[name] = {
            "nats": summary["heldout"]["nats_per_token"],
            "used_seconds": summary["clock"]["used_seconds"],
            "compile_seconds": summary["clock"]["ledger"].get("compile", 0.0),
            **{key: summary["train"][key] for key in keys},
        }
    target = answer["crammed"]["nats"]
    looks = [row for row in surviving(first.run.journal) if isinstance(row, Validation)]
    reached = next((row.seconds for row in looks if row.nats_per_token <= target), None)
    answer["modern_seconds_to_crammed"] = reached
    answer["ratio"] = None if reached is None else answer["crammed"]["used_seconds"] / reached
    return answer


def repeated(arm: Arm) -> dict[str, Any]:
    """The same steps from the same fit, twice plain and twice deterministic: equal weights, seconds of a step."""
    ready = make_arm("fitted", arm)
    answer: dict[str, Any] = {"budget": arm.budget, "compiled": ready.fit.compiled}
    for mode, on in (("plain", False), ("deterministic", True)):
        weights, seconds = [], []
        for number in range(2):
            run = RunDir(arm.folder / f"{mode}-{number}")
            with _deterministic(on):
                run_training(dataclasses.replace(ready, run=run))
            torch.compiler.reset()
            saved = load_newest(run.checkpoints, warn=lambda message: None)
            assert saved is not None  # training ended, so that its weights are there
            weights.append(saved.model)
            steps = [row for row in surviving(run.journal) if isinstance(row, Step) and not row.compiled_anew]
            seconds += [row.step_seconds / row.rows for row in steps]
        same = all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
        answer[mode] = {"bit_equal": same, "row_seconds": statistics.median(seconds)}
    answer["cost"] = answer["deterministic"]["row_seconds"] / answer["plain"]["row_seconds"]
    return answer


@contextmanager
def _deterministic(on: bool) -> Any:
    torch.use_deterministic_algorithms(on)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def killed_and_resumed(arm: Arm) -> dict[str, Any]:
    """Kill a training in a child process half-way, let a second child resume it, and look at what was kept."""
    arm = dataclasses.replace(arm, save_every_seconds=SAVE_SECONDS)
    ready = make_arm("killed", arm)
    told = json.dumps({**dataclasses.asdict(arm), "folder": os.fspath(arm.folder)})
    command = [sys.executable, os.fspath(Path(__file__)), told]
    budget = ready.recipe.budget.seconds or 0.0
    with subprocess.Popen(command) as child:
        while child.poll() is None and not _past(ready.run, budget / 2):
            time.sleep(0.1)
        if child.poll() is not None:
            raise RuntimeError("the run ended before it could be killed")
        child.send_signal(signal.SIGKILL)
    charged = float(read_json(ready.run.heartbeat)["used_seconds"])
    subprocess.run(command, check=True)
    summary = read_json(ready.run.root / "sections.json")
    rows = surviving(ready.run.journal)
    starts = [row for row in rows if isinstance(row, Start)]
    steps = [row for row in rows if isinstance(row, Step)]
    used = summary["clock"]["used_seconds"]
    # The last step is made if it ends nearer to the deadline than its omission would: it may be half a step late.
    most_late = LATE_SHARE * budget + max((row.step_seconds for row in steps if not row.compiled_anew), default=0.0)
    answer = {
        "budget_seconds": budget,
        "killed_at_seconds": charged,
        "resumed_at_step": starts[-1].step,
        "resumed_at_seconds": starts[-1].used_seconds,
        "lost_seconds": summary["clock"]["ledger"].get(LOST, 0.0),
        "used_seconds": used,
        "rows_without_gap": without_gap(steps),
        "clock_kept": starts[-1].used_seconds >= charged,
        "on_time": abs(used - budget) <= most_late,
        "attempts": summary["attempts"],
    }
    answer["ok"] = all(answer[key] for key in ("rows_without_gap", "clock_kept", "on_time")) and answer["attempts"] == 2
    return answer


def without_gap(steps: Sequence[Step]) -> bool:
    """Whether the surviving steps read every row from the first on once, without a gap or an overlap."""
    position = 0
    for step in steps:
        if step.first_row != position:
            return False
        position += step.rows
    return bool(steps)


def _past(run: RunDir, seconds: float) -> bool:
    """Whether the run has saved and has made a step since, after so many seconds."""
    rows = surviving(run.journal)
    saves = [row.step for row in rows if isinstance(row, Checkpoint)]
    steps = [row for row in rows if isinstance(row, Step)]
    return bool(steps and saves) and steps[-1].seconds >= seconds and steps[-1].step > max(saves[-1], 0)


def main() -> None:
    """The child of `killed_and_resumed`: train the arm that is told, and write its summary."""
    told = json.loads(sys.argv[1])
    ready = make_arm("killed", Arm(**{**told, "folder": Path(told["folder"])}))
    (ready.run.root / "sections.json").write_text(json.dumps(run_training(ready)))


if __name__ == "__main__":
    main()
