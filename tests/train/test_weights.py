"""Weights: what a checkpoint holds comes back to the bit, in place, and nothing of what was there remains."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuday.objectives import Learner
from gpuday.optim.adamw import Adamw
from gpuday.optim.muon import Muon
from gpuday.train.checkpoint import Saved
from gpuday.train.weights import Weights, is_sound

OPTIMIZERS = pytest.mark.parametrize("optimizer", [Adamw(), Muon()], ids=["adamw", "muon"])


def train(weights: Weights, seed: int) -> None:
    """One step on gradients that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in weights.learner.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    weights.stepper.step(1.0, lambda: None)


def saved(weights: Weights, *, step: int, skipped: int = 0) -> Saved:
    model, optimizer = weights.final_tensors()
    return Saved(Path(), model, optimizer, {"progress": {"step": step, "skipped": skipped}})


def same(one: tuple[dict[str, Tensor], ...], other: tuple[dict[str, Tensor], ...]) -> bool:
    return all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(one, other, strict=True)
    )


@OPTIMIZERS
def test_what_was_saved_comes_back_in_place(learner: Learner, optimizer: Any) -> None:
    """The same tensors, as compiled code knows them, with the bytes of before; and the next step is that of before."""
    weights = Weights(learner, optimizer, dtype=torch.float32)
    places = [p.data_ptr() for p in learner.parameters()]
    train(weights, 1)
    kept = saved(weights, step=1)
    train(weights, 2)
    then = weights.final_tensors()
    train(weights, 3)
    weights.restore(kept)
    assert same(weights.tensors(), (kept.model, kept.optimizer))
    assert [p.data_ptr() for p in learner.parameters()] == places
    train(weights, 2)
    assert same(weights.tensors(), then)


@OPTIMIZERS
def test_before_the_first_step_there_is_no_state_to_come_back(learner: Learner, optimizer: Any) -> None:
    """A run that goes back to its beginning starts without moments, and not with those of the steps it takes back."""
    weights = Weights(learner, optimizer, dtype=torch.float32)
    first = saved(weights, step=0)
    train(weights, 1)
    then = weights.final_tensors()
    train(weights, 2)
    weights.restore(first)
    train(weights, 1)
    assert same(weights.tensors(), then)


def test_a_checkpoint_is_worth_going_back_to_when_it_is_finite_and_not_doubtful(learner: Learner) -> None:
    """Not where its last update could not be made, and not with one element that is no number."""
    weights = Weights(learner, Adamw(), dtype=torch.float32)
    assert is_sound(saved(weights, step=3))
    assert not is_sound(saved(weights, step=3, skipped=1))
    for value in (float("nan"), float("inf")):
        bad = saved(weights, step=3)
        list(bad.model.values())[-1].view(-1)[-1] = value
        assert not is_sound(bad)


@OPTIMIZERS
def test_an_optimizer_that_is_not_finite_is_not_gone_back_to(learner: Learner, optimizer: Any) -> None:
    """An infinite second moment makes every update of its parameter zero, and no loss shows it."""
    weights = Weights(learner, optimizer, dtype=torch.float32)
    train(weights, 1)
    bad = saved(weights, step=3)
    assert is_sound(bad)
    next(t for t in bad.optimizer.values() if t.numel() > 1).view(-1)[0] = float("inf")
    assert not is_sound(bad)
