"""The same recipe is the same run: in one process and in two, with text that is prepared anew, and cut by a save."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from gpuday.core import parts
from gpuday.core.errors import Interrupted
from gpuday.core.journal import Start, Step, Validation, read
from gpuday.core.rundir import RunDir, read_json
from gpuday.objectives import Objective
from gpuday.optim import Optimizer
from gpuday.recipe import Recipe
from gpuday.train.checkpoint import load_newest

ROOT = Path(__file__).resolve().parents[2]
TrainRun = Callable[..., Any]
# What a clock has a part in; all else in a journal follows from recipe, text and machine.
OF_THE_CLOCK = {"seconds", "step_seconds", "waited_seconds", "used_seconds", "save_seconds"}
TRAINED = list(product(parts.names(Optimizer), parts.names(Objective)))


def journal(run: RunDir) -> list[dict[str, Any]]:
    """Every row but those of checkpoints, which come by the clock, without what is the clock's."""
    rows = [(type(row).__name__, dataclasses.asdict(row)) for _, row in read(run.journal)]
    kept = [{"kind": kind, **row} for kind, row in rows if kind != "Checkpoint"]
    return [{key: value for key, value in row.items() if key not in OF_THE_CLOCK} for row in kept]


def result(run: RunDir) -> dict[str, Any]:
    """All that must repeat: the bytes of weights and optimizer, the held-out answers, how far the run came."""
    saved = load_newest(run.checkpoints, warn=pytest.fail)
    assert saved is not None
    files = {name: (saved.folder / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")}
    return {**saved.state["progress"], **files}


def test_two_runs_in_one_process_are_equal(
    train_run: TrainRun, make_recipe: Callable[..., Recipe], run: RunDir
) -> None:
    """Weights, optimizer, held-out losses and the journal, with dropout, a growing batch and falling mask rates."""
    growing = {"part": "ramp", "start": 0.25, "until": 0.5}
    changes = {"train__dropout": True, "model__dropout": 0.1, "batch__ramp": growing, "batch__least_tokens": 128}
    recipe, other = make_recipe("12steps", batch__rows=16, **changes), RunDir(run.root.with_name("other"))
    train_run(recipe, fit={"rows": 16})
    train_run(recipe, at=other, fit={"rows": 16})
    assert result(run) == result(other)
    assert journal(run) == journal(other)
    assert len({row["rows"] for row in journal(run) if row["kind"] == "Step"}) > 2


@pytest.fixture(scope="module")
def anew(tmp_path_factory: pytest.TempPathFactory, tiny_toml: Callable[..., str]) -> tuple[RunDir, RunDir]:
    """One recipe in two processes with two caches: tokenizer trained, text packed and split anew. The second is given
    the first one's fit, since a fit is measured."""
    place = tmp_path_factory.mktemp("anew")
    (place / "tiny.toml").write_text(tiny_toml(budget="20steps"))
    runs = [RunDir(place / "runs" / name) for name in ("one", "two")]
    for index, run in enumerate(runs):
        if index:
            run.root.mkdir(parents=True)
            run.fit.write_bytes(runs[0].fit.read_bytes())
        command = [sys.executable, "-m", "gpuday", "train", "tiny.toml", "--out", f"runs/{run.root.name}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "GPUDAY_CACHE": str(place / f"cache-{index}")}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    return runs[0], runs[1]


def test_text_that_is_prepared_anew_gives_the_same_tokens(anew: tuple[RunDir, RunDir]) -> None:
    """Tokenizer, training and held-out tokens, file by file, from two caches that share nothing."""
    files: list[dict[str, bytes]] = []
    for run in anew:
        folders = ("train.tok", "heldout.tok", "heldout.words", ".")
        found = {f"{name}/{p.name}": p for name in folders for p in sorted((run.data / name).iterdir()) if p.is_file()}
        files.append({name: path.read_bytes() for name, path in found.items() if path.name != "manifest.json"})
    assert (anew[0].data / "train.tok").resolve() != (anew[1].data / "train.tok").resolve()
    assert files[0] == files[1]
    assert any(name.startswith("train.tok/") for name in files[0]) and "./tokenizer.json" in files[0]
    assert read_json(anew[0].recipe)["data"]["tokenizer"] == "bpe"


def test_two_processes_with_two_caches_train_the_same_run(anew: tuple[RunDir, RunDir]) -> None:
    """Weights, optimizer, held-out losses, by source too, and the journal."""
    assert result(anew[0]) == result(anew[1])
    assert journal(anew[0]) == journal(anew[1])
    kinds = [row["kind"] for row in journal(anew[0])]
    assert {"Start", "Step", "Validation"} <= set(kinds) and kinds.count("Step") == 20
    one, two = (read_json(run.summary)["heldout"] for run in anew)
    assert json.dumps(one) == json.dumps(two)


@pytest.mark.parametrize(("optimizer", "objective"), TRAINED)
def test_three_steps_saved_loaded_and_three_more_equal_six(
    train_run: TrainRun, make_recipe: Callable[..., Recipe], run: RunDir, at_step: Any, send: Any, optimizer: str,
    objective: str,
) -> None:  # fmt: skip
    """Of every optimizer with every objective that ships, through a checkpoint on disk and into fresh objects; a part
    that is put into its folder is enrolled by that."""
    recipe = make_recipe("6steps", optimizer={"part": optimizer}, objective={"part": objective})
    whole = RunDir(run.root.with_name("whole"))
    train_run(recipe, at=whole)
    with pytest.raises(Interrupted):
        train_run(recipe, tell=at_step(3, send(signal.SIGTERM)))
    train_run(recipe)
    assert result(run) == result(whole)
    steps = [[row for _, row in read(at.journal) if isinstance(row, Step)] for at in (run, whole)]
    assert [row.loss for row in steps[0]] == [row.loss for row in steps[1]]
    assert len({row.loss for row in steps[0]}) == 6
    assert [row.step for _, row in read(run.journal) if isinstance(row, Start)] == [0, 3]
    assert len([row for _, row in read(run.journal) if isinstance(row, Validation) and row.final]) == 1
