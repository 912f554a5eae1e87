"""What holds for an objective of any kind; a new file in the folder is enrolled by being there."""

import numpy as np
import pytest
import torch

from gpuday.core import parts
from gpuday.objectives import Objective

KEYS = np.arange(32, dtype=np.uint64) * 7
every_objective = pytest.mark.parametrize("name", parts.names(Objective))


@pytest.fixture
def draw(rows, vocabulary):
    """The inputs of some rows, by index, in the objective called so."""

    def made(name, chosen, *, epoch=0, seed=0):
        objective = parts.find(Objective, name)()
        return objective.inputs(
            rows[chosen], KEYS[chosen], seed=seed, epoch=epoch, multiplier=1.0, vocabulary=vocabulary
        )

    return made


@every_objective
def test_weights_are_one_for_every_prediction(name, draw):
    """fp32, as many for each row as the objective says beforehand."""
    weights = draw(name, np.arange(32))["weights"]
    assert weights.dtype == np.float32
    assert weights.tolist() == [1.0] * (32 * parts.find(Objective, name)().predicted(16, 1.0))


@every_objective
def test_a_rows_inputs_are_the_same_in_every_batch(name, draw):
    """Each row's share of every array is what the row gets alone, positions counted on from the rows before it."""
    whole = draw(name, np.arange(32))
    for i in (0, 13, 31):
        alone = draw(name, np.array([i]))
        for key, array in whole.items():
            share = np.split(array, 32)[i] - (16 * i if key == "positions" else 0)
            assert np.array_equal(share, alone[key]), key


@every_objective
def test_inputs_repeat_for_a_seed_and_epoch_and_differ_for_others(name, draw):
    """What makes a run repeatable, and no epoch the copy of another."""
    first, again = draw(name, np.arange(32)), draw(name, np.arange(32))
    assert all(np.array_equal(array, again[key]) for key, array in first.items())
    for change in ({"epoch": 1}, {"seed": 1}):
        other = draw(name, np.arange(32), **change)
        assert any(not np.array_equal(array, other[key]) for key, array in first.items())


@every_objective
def test_the_rate_never_leaves_the_row(name):
    """At least one prediction and at most all, wherever a schedule goes, and never fewer at a higher rate."""
    counts = [parts.find(Objective, name)().predicted(16, m / 20) for m in range(41)]
    assert (min(counts) >= 1, max(counts) <= 16) == (True, True)
    assert counts == sorted(counts)


@every_objective
def test_the_loss_is_a_weighted_sum(name, draw, make_model):
    """A finite fp32 scalar that doubles with its weights and is zero without them, whatever the compute dtype."""
    learner = parts.find(Objective, name)().build(make_model)
    inputs = {key: torch.from_numpy(array) for key, array in draw(name, np.arange(4)).items()}
    for dtype in (torch.float32, torch.bfloat16):
        learner.model.encoder.dtype = dtype
        losses = [learner({**inputs, "weights": factor * inputs["weights"]}) for factor in (0.0, 1.0, 2.0)]
        assert [(loss.shape, loss.dtype) for loss in losses] == [(torch.Size([]), torch.float32)] * 3
        assert losses[0].item() == 0.0
        assert losses[1].item() > 0.0
        torch.testing.assert_close(losses[2], 2 * losses[1])


@every_objective
def test_every_parameter_learns_in_fp32(name, draw, make_model):
    """One backward pass in bf16 gives each parameter an fp32 gradient."""
    learner = parts.find(Objective, name)().build(make_model)
    learner.model.encoder.dtype = torch.bfloat16
    learner({key: torch.from_numpy(array) for key, array in draw(name, np.arange(4)).items()}).backward()
    assert {p.grad.dtype for p in learner.parameters()} == {torch.float32}
    assert all(p.grad.any() for p in learner.parameters())
