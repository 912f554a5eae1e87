"""What holds for an objective of any kind; a new file in the folder is enrolled by being there."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gpuday.core import parts
from gpuday.objectives import Objective
from gpuday.train.useful import ModelCosts

KEYS = np.arange(32, dtype=np.uint64) * 7
every_objective = pytest.mark.parametrize("name", parts.names(Objective))
every_kind = pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in parts.names(Objective) for kind in parts.find(Objective, name).kinds]
)


@pytest.fixture
def draw(rows, vocabulary):
    """The inputs of some rows, by index, in the objective called so and its first kind of step, or another."""

    def made(name, chosen, kind=None, *, epoch=0, seed=0):
        objective = parts.find(Objective, name)()
        return objective.inputs(
            rows[chosen],
            KEYS[chosen],
            seed=seed,
            epoch=epoch,
            multiplier=1.0,
            kind=kind or objective.kinds[0],
            vocabulary=vocabulary,
        )

    return made


@every_kind
def test_weights_are_one_for_every_prediction(name, kind, draw):
    """fp32, as many for each row as the objective says beforehand."""
    weights, objective = draw(name, np.arange(32), kind)["weights"], parts.find(Objective, name)()
    assert weights.dtype == np.float32
    assert weights.tolist() == [1.0] * (32 * objective.predicted(16, 1.0, kind))


@every_kind
def test_a_rows_inputs_are_the_same_in_every_batch(name, kind, draw):
    """Each row's share of every array is what the row gets alone, positions counted on from the rows before it."""
    whole = draw(name, np.arange(32), kind)
    for i in (0, 13, 31):
        alone = draw(name, np.array([i]), kind)
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
    objective = parts.find(Objective, name)()
    for kind in objective.kinds:
        counts = [objective.predicted(16, m / 20, kind) for m in range(41)]
        assert (min(counts) >= 1, max(counts) <= 16) == (True, True)
        assert counts == sorted(counts)


@pytest.fixture
def learn(draw, make_model):
    """(learner, its inputs of four rows as tensors) of the objective called so, in its first kind of step or another."""

    def made(name, kind):
        learner = parts.find(Objective, name)().build(make_model)
        return learner, {key: torch.from_numpy(array) for key, array in draw(name, np.arange(4), kind).items()}

    return made


def set_dtype(learner, dtype):
    for encoder in learner.encoders():
        encoder.dtype = dtype


@every_kind
def test_the_loss_is_a_weighted_sum(name, kind, learn):
    """A finite fp32 scalar that doubles with its weights and is zero without them, whatever the compute dtype."""
    learner, inputs = learn(name, kind)
    for dtype in (torch.float32, torch.bfloat16):
        set_dtype(learner, dtype)
        losses = [learner({**inputs, "weights": factor * inputs["weights"]}, kind) for factor in (0.0, 1.0, 2.0)]
        assert [(loss.shape, loss.dtype) for loss in losses] == [(torch.Size([]), torch.float32)] * 3
        assert losses[0].item() == 0.0
        assert losses[1].item() > 0.0
        torch.testing.assert_close(losses[2], 2 * losses[1])


@every_kind
def test_every_parameter_learns_in_fp32(name, kind, learn):
    """One backward pass in bf16 gives each parameter an fp32 gradient, but for those that are set aside."""
    learner, inputs = learn(name, kind)
    set_dtype(learner, torch.bfloat16)
    learner(inputs, kind).backward()
    trained = [p for p in learner.parameters() if p.requires_grad]
    assert {p.grad.dtype for p in trained} == {torch.float32}
    assert all(p.grad.any() for p in trained)


@every_kind
def test_a_batch_is_learned_by_heart(name, kind, learn):
    """Sixty steps of AdamW on the same four rows take a twentieth of the loss or less."""
    learner, inputs = learn(name, kind)
    inputs["weights"] /= len(inputs["weights"])
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = learner(inputs, kind)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


@every_objective
def test_the_predictor_is_the_model_or_stands_beside_it(name, learn):
    """It predicts every token of the vocabulary, and `encoders` names each encoder once."""
    kind = parts.find(Objective, name).kinds[0]
    learner, inputs = learn(name, kind)
    assert learner.predictor(inputs["ids"]).shape == (inputs["ids"].numel(), 100)
    wanted = {id(learner.model.encoder), id(learner.predictor.encoder)}
    assert [id(encoder) for encoder in learner.encoders()] == list(dict.fromkeys(map(id, learner.encoders())))
    assert {id(encoder) for encoder in learner.encoders()} == wanted


@every_kind
def test_the_flops_are_what_torch_counts(name, kind, learn):
    """Forward and backward of all products of a batch. What is recomputed to sample from it is left out by both."""
    learner, inputs = learn(name, kind)
    rows, length = inputs["ids"].shape
    with FlopCounterMode(display=False) as counter:
        learner(inputs, kind).backward()
    counted = counter.get_total_flops()
    if "uniform" in inputs:
        table = learner.predictor.decoder().table
        counted -= 2 * len(inputs["uniform"]) * table.numel()
    costs = ModelCosts(learner.model.config, 100)
    per_token = parts.find(Objective, name)().training_flops(costs, length=length, multiplier=1.0, kind=kind)
    assert counted == pytest.approx(rows * length * per_token, rel=1e-9)
