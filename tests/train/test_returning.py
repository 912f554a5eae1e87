"""Going back: which checkpoint is taken, what of the run goes back with it, and what stays when the disk refuses."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpuday.averages.last import Last
from gpuday.core.clock import Budget, Clock
from gpuday.core.errors import GpudayError
from gpuday.core.rundir import RunDir
from gpuday.objectives import Learner
from gpuday.optim.adamw import Adamw
from gpuday.train import checkpoint
from gpuday.train.parallel import Ranks
from gpuday.train.progress import Progress
from gpuday.train.returning import go_back
from gpuday.train.weights import Weights

COUNTS = {"tokens": 0.0, "steps": 0.0, "flops": 0.0}
Back = Callable[..., Progress]


@pytest.fixture
def weights(learner: Learner) -> Weights:
    return Weights(learner, Adamw(), Last(), dtype=torch.float32)


@pytest.fixture
def save(run: RunDir, weights: Weights) -> Callable[..., Path]:
    """`save(4, skipped=1)`: the weights, all with the value of the step, as a checkpoint."""

    def make(step: int, **progress: Any) -> Path:
        model = {name: torch.full_like(p, float(step)) for name, p in weights.tensors()[0].items()}
        state = {
            "progress": {"step": step, "position": 8 * step, "skipped": 0, "final": None, **progress},
            "pace": {},
            "clock": {"ledger": {}, "counts": {**COUNTS, "steps": float(step)}, "reserve_seconds": 0.0},
            "sound": not progress.get("skipped"),
        }
        parameters = {name: p.detach() for name, p in model.items()}
        weights._begin()
        for parameter in weights.learner.parameters():
            parameter.grad = torch.zeros_like(parameter)
        weights.stepper.step(0.0, lambda: None)
        return checkpoint.save(run.checkpoints, step, model=parameters, optimizer=weights.stepper.state(), state=state)

    return make


@pytest.fixture
def back(run: RunDir, weights: Weights) -> Back:
    """`back(beyond=0, before=9)` from step 9."""

    def go(*, beyond: int, before: int, note: Callable[[str], None] = pytest.fail) -> Progress:
        now = Progress(step=9, position=99, microbatch=3, compilations=5, skipped=3, branch=1)
        clock = Clock(Budget.parse("20steps"))
        options = {"reason": "for a test", "beyond": beyond, "before": before, "note": note}
        progress = go_back(run, Ranks(), now, weights, clock, **options)
        assert clock.counts["steps"] == progress.step
        return progress

    return go


def test_weights_and_counts_go_back_and_the_stream_goes_on(
    save: Callable[..., Path], back: Back, run: RunDir, weights: Weights
) -> None:
    """The newest sound one between the two steps; later ones are gone, and the branch is a new one."""
    for step, skipped in ((4, 0), (6, 0), (8, 2)):
        save(step, skipped=skipped)
    progress = back(beyond=4, before=10)
    assert (progress.step, progress.position, progress.skipped) == (6, 99, 0)
    assert (progress.microbatch, progress.compilations, progress.rolled_back_to, progress.branch) == (3, 5, 6, 2)
    assert all(bool((p == 6).all()) for p in weights.tensors()[0].values())
    assert checkpoint.steps(run.checkpoints) == [6]


@pytest.mark.parametrize(("beyond", "before"), [(6, 10), (-1, 4)])
def test_neither_bound_is_gone_back_to(save: Callable[..., Path], back: Back, beyond: int, before: int) -> None:
    """Exit code 70 where nothing lies between, and the checkpoints stay."""
    for step in (4, 6):
        save(step)
    with pytest.raises(GpudayError, match="diverged at step 9: for a test"):
        back(beyond=beyond, before=before)


def test_a_later_one_that_the_disk_does_not_let_go_is_the_older(
    save: Callable[..., Path], back: Back, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on, says so, and what it saves next is what a resume takes."""
    save(4)
    save(8, skipped=2)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    notes: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        progress = back(beyond=0, before=10, note=notes.append)
    assert len(notes) == 1 and "step-00000008 cannot be removed" in notes[0]
    assert checkpoint.steps(run.checkpoints) == [8, 4]
    save(5, branch=progress.branch)
    assert checkpoint.steps(run.checkpoints)[0] == 5
    saved = checkpoint.load_newest(run.checkpoints, warn=pytest.fail)
    assert saved is not None and saved.folder.name == "step-00000005"
