"""Weights: what a checkpoint holds comes back to the bit, in place, and nothing of what was there remains; and what is
evaluated is the average of what the optimizer evaluates."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuday.averages.ema import Ema
from gpuday.averages.last import Last
from gpuday.averages.soup import Soup
from gpuday.objectives import Learner
from gpuday.optim import Named, Optimizer, Stepper
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


def raw(weights: Weights, *, step: int) -> Saved:
    """As a save between two steps holds them: the trained weights, not the average."""
    model, optimizer = ({name: t.clone() for name, t in tensors.items()} for tensors in weights.tensors())
    return Saved(Path(), model, optimizer, {"progress": {"step": step, "skipped": 0}})


def same(one: tuple[dict[str, Tensor], ...], other: tuple[dict[str, Tensor], ...]) -> bool:
    return all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(one, other, strict=True)
    )


@OPTIMIZERS
def test_what_was_saved_comes_back_in_place(learner: Learner, optimizer: Any) -> None:
    """The same tensors, as compiled code knows them, with the bytes of before; and the next step is that of before."""
    weights = Weights(learner, optimizer, Last(), dtype=torch.float32)
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
    weights = Weights(learner, optimizer, Last(), dtype=torch.float32)
    first = saved(weights, step=0)
    train(weights, 1)
    then = weights.final_tensors()
    train(weights, 2)
    weights.restore(first)
    train(weights, 1)
    assert same(weights.tensors(), then)


def test_a_checkpoint_is_worth_going_back_to_when_it_is_finite_and_not_doubtful(learner: Learner) -> None:
    """Not where its last update could not be made, and not with one element that is no number."""
    weights = Weights(learner, Adamw(), Last(), dtype=torch.float32)
    assert is_sound(saved(weights, step=3))
    assert not is_sound(saved(weights, step=3, skipped=1))
    for value in (float("nan"), float("inf")):
        bad = saved(weights, step=3)
        list(bad.model.values())[-1].view(-1)[-1] = value
        assert not is_sound(bad)


@OPTIMIZERS
def test_an_optimizer_that_is_not_finite_is_not_gone_back_to(learner: Learner, optimizer: Any) -> None:
    """An infinite second moment makes every update of its parameter zero, and no loss shows it."""
    weights = Weights(learner, optimizer, Last(), dtype=torch.float32)
    train(weights, 1)
    bad = saved(weights, step=3)
    assert is_sound(bad)
    next(t for t in bad.optimizer.values() if t.numel() > 1).view(-1)[0] = float("inf")
    assert not is_sound(bad)


@pytest.mark.parametrize("step", [0, 2])
def test_an_average_comes_back_and_what_came_after_is_out_of_it(learner: Learner, step: int) -> None:
    """Updates that a run goes back from are in no average, be it to its first step, where there is none yet."""
    weights = Weights(learner, Adamw(), Ema(half_life=0.5), dtype=torch.float32)

    def go(*seeds: int) -> None:
        for seed in seeds:
            train(weights, seed)
            weights.updated(0.5)

    go(*range(step))
    kept = raw(weights, step=step)
    go(7)
    straight = weights.final_tensors()
    weights.restore(kept)
    go(8, 9)
    assert not same(weights.final_tensors(), straight)
    weights.restore(kept)
    go(7)
    assert same(weights.final_tensors(), straight)


def test_a_checkpoint_of_the_time_before_averages_is_read(learner: Learner) -> None:
    """Its optimizer file holds the optimizer alone, which is what a run that keeps the last weights writes."""
    weights = Weights(learner, Adamw(), Last(), dtype=torch.float32)
    train(weights, 1)
    kept = saved(weights, step=1)
    assert kept.optimizer.keys() == weights.stepper.state().keys()
    weights.restore(kept)
    with pytest.raises(KeyError):
        Weights(learner, Adamw(), Ema(), dtype=torch.float32).restore(kept)


def test_every_stepper_is_built_with_the_seed(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one, and the one after a checkpoint is restored: what an optimizer draws goes on with the run's numbers."""
    seeds, build = [], Adamw.build

    def listen(self: Adamw, parameters: Sequence[Named], *, dtype: torch.dtype, seed: int) -> Stepper:
        seeds.append(seed)
        return build(self, parameters, dtype=dtype, seed=seed)

    monkeypatch.setattr(Adamw, "build", listen)
    weights = Weights(learner, Adamw(), Last(), dtype=torch.float32, seed=7)
    train(weights, 1)
    weights.restore(saved(weights, step=1))
    assert seeds == [7, 7]


SHIFT = 100.0


class Shifting(Optimizer):
    """Evaluates the trained weights plus 100."""

    @property
    def period(self) -> int:
        return 1

    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        return ShiftingStepper(parameters)


class ShiftingStepper(Stepper):
    def __init__(self, parameters: Sequence[Named]) -> None:
        self._parameters = [p.tensor for p in parameters]

    @torch.no_grad()
    def step(self, multiplier: float, closure: Callable[[], None], *, decay: float = 1.0) -> None:
        for parameter in self._parameters:
            parameter.copy_(parameter.grad)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        own = [p.detach().clone() for p in self._parameters]
        with torch.no_grad():
            torch._foreach_add_(self._parameters, SHIFT)
        yield
        with torch.no_grad():
            torch._foreach_copy_(self._parameters, own)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        assert state == {}


def test_the_average_is_of_the_weights_that_the_optimizer_evaluates(learner: Learner) -> None:
    """Not of those that it trains, which are what it goes on with, and what a checkpoint holds while training."""
    weights = Weights(learner, Shifting(), Soup(start=0.5, every=0.0), dtype=torch.float32)
    places = []
    for seed, fraction in enumerate((0.2, 0.6, 0.8)):
        train(weights, seed)
        weights.updated(fraction)
        places.append(next(learner.parameters()).detach().clone())
        with weights.evaluation():
            expected = SHIFT + torch.stack(places[1:] or places).mean(dim=0)
            torch.testing.assert_close(next(learner.parameters()).detach(), expected, atol=1e-4, rtol=0)
        assert torch.equal(next(learner.parameters()), places[-1])
    assert torch.equal(next(iter(weights.tensors()[0].values())), places[-1])
    torch.testing.assert_close(next(iter(weights.final_tensors()[0].values())), expected, atol=1e-4, rtol=0)
