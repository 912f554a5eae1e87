"""The same recipe is the same run: in one process and in two, with text that is prepared anew, and cut by a save."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.averages import Average
from gpuday.core import parts
from gpuday.core.journal import Start, Step, Validation, read
from gpuday.core.rundir import RunDir, read_json
from gpuday.objectives import Objective
from gpuday.optim import Optimizer
from gpuday.recipe import Recipe
from passing_time import Time
from trained_run import newest, rows

ROOT = Path(__file__).resolve().parents[2]
TrainRun = Callable[..., Any]
# What a clock has a part in; all else in a journal follows from recipe, text and machine.
OF_THE_CLOCK = {"seconds", "step_seconds", "waited_seconds", "used_seconds", "save_seconds"}
# Every part once, with the plainest of the other kinds.
PLAIN = {"optimizer": "adamw", "objective": "mlm", "average": "last"}
KINDS: dict[str, type[parts.Part]] = {"optimizer": Optimizer, "objective": Objective, "average": Average}
TRAINED = [PLAIN, *({**PLAIN, kind: n} for kind in KINDS for n in parts.names(KINDS[kind]) if n != PLAIN[kind])]
# Three of six steps leave an average that the other three go on with.
KNOBS: dict[str, dict[str, Any]] = {"ema": {"half_life": 0.3}, "soup": {"start": 0.2}, "lawa": {"every": 0.1}}
# What a part asks of the rest of the recipe, which is to be there first.
COMPANIONS: dict[str, dict[str, Any]] = {"schedule_free": {"rate": {"part": "constant", "warmup": 0.02}}}


def journal(run: RunDir) -> list[dict[str, Any]]:
    """Every row but those of checkpoints, which come by the clock, without what is the clock's."""
    rows = [(type(row).__name__, dataclasses.asdict(row)) for _, row in read(run.journal)]
    kept = [{"kind": kind, **row} for kind, row in rows if kind != "Checkpoint"]
    return [{key: value for key, value in row.items() if key not in OF_THE_CLOCK} for row in kept]


def result(run: RunDir) -> dict[str, Any]:
    """All that must repeat: the bytes of weights and optimizer, the held-out answers, how far the run came."""
    saved = newest(run)
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


@pytest.mark.parametrize("parted", TRAINED, ids=lambda chosen: "-".join(chosen.values()))
def test_three_steps_saved_loaded_and_three_more_equal_six(
    train_run: TrainRun, make_recipe: Callable[..., Recipe], run: RunDir, parted: dict[str, str]
) -> None:
    """With every optimizer, every objective and every average that ships, through a checkpoint on disk and into fresh
    objects; a part that is put into its folder is enrolled by that."""
    chosen = {key: value for name in parted.values() for key, value in COMPANIONS.get(name, {}).items()}
    chosen |= {kind: {"part": name, **KNOBS.get(name, {})} for kind, name in parted.items()}
    recipe, fit = make_recipe("6steps", batch__rows=4, **chosen), {"rows": 4, "microbatch": 2, "heldout_rows": 8}
    cut, now = RunDir(run.root.with_name("cut")), Time()

    def tell(event: str, /, **values: Any) -> None:
        if event == "step" and values["step"] == 3:
            now.passes(2 * recipe.train.save_every_seconds)
        if event == "step" and values["step"] == 4:  # a kill leaves what a copy of this moment is
            shutil.copytree(run.root, cut.root)

    train_run(recipe, fit=fit, tell=tell, now=now)
    assert newest(cut).state["progress"]["step"] == 3
    train_run(recipe, at=cut, fit=fit)
    assert result(cut) == result(run)
    losses = [[row.loss for row in rows(at, Step)] for at in (run, cut)]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 6
    assert [row.step for _, row in read(cut.journal) if isinstance(row, Start)] == [0, 3]
    assert len([row for _, row in read(cut.journal) if isinstance(row, Validation) and row.final]) == 1
