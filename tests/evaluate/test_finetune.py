from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import transformers

from gpuday.core.errors import DataError
from gpuday.evaluate.finetune import P1, encode_task, finetune, rate_multiplier
from gpuday.evaluate.tasks import TaskData
from gpuday.train.trained import Trained

QUICK = replace(P1, name="quick", epochs=2)
EAGER = replace(P1, name="eager", lr=3e-3)  # P1's rate is for trained encoders; a random one learns little from it


def test_p1_is_the_published_protocol() -> None:
    """Every hyperparameter of the cramming paper's evaluation; a change here would need another name."""
    assert asdict(P1) == {
        "name": "P1", "epochs": 5, "batch": 16, "lr": 4e-5, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6,
        "weight_decay": 0.0, "warmup": 0.1, "dropout": 0.1, "max_tokens": 128,
    }  # fmt: skip


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (5, 0.5), (10, 1.0), (55, 0.5), (100, 0.0)])
def test_rate_at_hand_picked_points(step: int, expected: float) -> None:
    """Of 100 steps the first ten rise in a line, and the cosine is half way down in the middle of the rest."""
    assert rate_multiplier(step, 100, 0.1) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("steps", [1, 7, 93])
def test_rate_agrees_with_transformers(steps: int) -> None:
    """The schedule is `get_cosine_schedule_with_warmup`, which the paper's code uses, at every step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, int(0.1 * steps), steps)
    for step in range(steps):
        assert rate_multiplier(step, steps, 0.1) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_two_fine_tunings_of_one_seed_are_equal(trained: Trained, toy_data: TaskData) -> None:
    """Loss and metrics repeat to the bit, and another seed gives another loss."""
    first, second = (finetune(trained, toy_data, QUICK, 3) for _ in range(2))
    assert (first.train_loss, first.metrics) == (second.train_loss, second.metrics)
    assert finetune(trained, toy_data, QUICK, 4).train_loss != first.train_loss


def test_two_tasks_in_a_row_get_what_each_gets_alone(
    trained: Trained, toy_data: TaskData, other_data: TaskData
) -> None:
    """No weights, rates or random numbers leak from one task into the next, in either order."""
    torch.manual_seed(1)
    forward = [finetune(trained, data, QUICK, 0) for data in (toy_data, other_data)]
    torch.manual_seed(2)
    backward = [finetune(trained, data, QUICK, 0) for data in (other_data, toy_data)]
    for a, b in zip(forward, reversed(backward), strict=True):
        assert (a.train_loss, a.metrics, a.steps) == (b.train_loss, b.metrics, b.steps)


def test_the_run_and_the_random_state_are_left_alone(trained: Trained, toy_data: TaskData) -> None:
    """Fine-tuning works on a copy and puts torch's generator back."""
    before = {name: p.clone() for name, p in trained.model.named_parameters()}
    state = torch.get_rng_state()
    finetune(trained, toy_data, QUICK, 0)
    assert all(torch.equal(p, before[name]) for name, p in trained.model.named_parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert trained.model.encoder.dtype == torch.float32
    assert trained.model.encoder.config.dropout == 0.0


def test_a_separable_task_is_learnt(trained: Trained, toy_data: TaskData) -> None:
    """A tiny random encoder finds out which of two words is in the text."""
    outcome = finetune(trained, toy_data, EAGER, 0)
    majority = max(np.bincount(toy_data.dev.labels)) / len(toy_data.dev)
    assert outcome.metrics["accuracy"] > max(0.85, majority + 0.2)
    assert outcome.steps == 5 * (200 // 16)


def test_regression_on_pairs_is_learnt(trained: Trained, other_data: TaskData) -> None:
    """The mean squared error falls below the variance of the labels, and the correlation is positive."""
    outcome = finetune(trained, other_data, replace(EAGER, epochs=25), 0)
    assert outcome.train_loss < np.var(other_data.train.labels)
    assert outcome.metrics["pearson"] > 0.3


def test_a_loss_that_is_not_finite_is_an_error(trained: Trained, toy_data: TaskData) -> None:
    """Diverged weights give a sentence, not a score."""
    with torch.no_grad():
        trained.model.encoder.embedding.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        finetune(trained, toy_data, QUICK, 0)


def test_a_batch_must_be_filled(trained: Trained, toy_data: TaskData) -> None:
    """Fifteen rows make no step, since incomplete batches are dropped."""
    with pytest.raises(DataError, match="15 train rows"):
        encode_task(trained, replace(toy_data, train=toy_data.train.take(np.arange(15))))


def test_epochs_are_told(trained: Trained, toy_data: TaskData) -> None:
    """The listener hears of every epoch with its mean loss."""
    heard = []
    finetune(trained, toy_data, QUICK, 0, progress=lambda event, /, **values: heard.append((event, values["epoch"])))
    assert heard == [("epoch", 1), ("epoch", 2)]
