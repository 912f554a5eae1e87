"""The critic and its learner: what counts as replaced, the loss written out, and which way gradients go."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gpuday.objectives._critic import Critic, CriticLearner, corrupted
from gpuday.objectives.rtd import Rtd
from gpuday.objectives.script import Script

EACH = {"rtd": Rtd(), "script": Script()}
each_of_both = pytest.mark.parametrize("objective", EACH.values(), ids=EACH.keys())


@pytest.fixture
def make_inputs(rows, vocabulary):
    """Tensors for the first eight rows."""

    def make(objective):
        arrays = objective.inputs(
            rows[:8],
            np.arange(8, dtype=np.uint64),
            seed=0,
            epoch=0,
            multiplier=1.0,
            kind="masked",
            vocabulary=vocabulary,
        )
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    return make


def samples_of(learner, inputs):
    hidden = learner.predictor.encoder(inputs["ids"])
    features = learner._predictions.features(hidden, inputs)
    return learner._predictions.samples(features, inputs["uniform"])


def test_a_position_that_sampled_its_own_token_counts_as_original():
    """Two predictions in each of two rows, two of them wrong, by hand."""
    inputs = {
        "ids": torch.tensor([[9, 6, 6], [6, 8, 6]]),
        "positions": torch.tensor([1, 2, 3, 5]),
        "labels": torch.tensor([10, 11, 12, 13]),
    }
    ids, replaced = corrupted(inputs, torch.tensor([10, 50, 51, 13]))
    assert ids.tolist() == [[9, 10, 50], [51, 8, 13]]
    assert replaced.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert inputs["ids"].tolist() == [[9, 6, 6], [6, 8, 6]]


def test_the_critics_head_is_dense_gelu_linear():
    """One fp32 logit for every position, written out."""
    head = Critic(8)
    hidden = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        head.dense_bias.fill_(0.3)
        head.output_bias.fill_(-0.2)
    expected = F.gelu(hidden @ head.dense.T + 0.3) @ head.output - 0.2
    torch.testing.assert_close(head(hidden), expected)
    assert head(hidden.bfloat16()).dtype == torch.float32


@each_of_both
def test_the_loss_is_the_prediction_plus_the_weighted_criticism(objective, make_inputs, make_model):
    """A mean over predictions, and `weight` times a mean over all positions, from logits that exist whole."""
    learner, inputs = objective.build(make_model), make_inputs(objective)
    inputs["weights"] /= len(inputs["weights"])
    logits = learner.predictor(inputs["ids"], inputs["positions"])
    ids, replaced = corrupted(inputs, samples_of(learner, inputs))
    assert 0 < replaced.sum() < replaced.numel()
    judged = learner.critic(learner.model.encoder(ids))
    criticism = F.binary_cross_entropy_with_logits(judged, replaced)
    expected = F.cross_entropy(logits, inputs["labels"]) + objective.weight * criticism
    torch.testing.assert_close(learner(inputs, "masked"), expected, rtol=1e-5, atol=1e-5)


def test_no_gradient_of_the_criticism_reaches_the_generator(make_inputs, make_model):
    """With nothing predicted, all of the generator's gradients are zero; with embeddings of its own, every single one."""
    objective = Rtd(share_embeddings=False)
    learner, inputs = objective.build(make_model), make_inputs(objective)
    whole, criticised = [], []
    for weight, kept in ((50.0, whole), (0.0, criticised)):
        other = CriticLearner(learner.model, learner.generator, loss=objective.mlm.loss, weight=weight)
        other.critic = learner.critic
        learner.zero_grad()
        other(inputs, "masked").backward()
        kept += [p.grad.clone() for p in learner.generator.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(whole, criticised, strict=True))
    assert any(g.any() for g in whole)


@each_of_both
def test_a_prediction_of_weight_zero_has_no_influence(objective, make_inputs, make_model):
    """Rows that fill up a micro-batch may hold anything, in both losses."""
    learner, inputs = objective.build(make_model), make_inputs(objective)
    per_row = len(inputs["weights"]) // 8
    inputs["weights"][-per_row:] = 0.0
    ids = inputs["ids"].clone()
    ids[-1] = 42
    labels = inputs["labels"].clone()
    labels[-per_row:] = 43
    torch.testing.assert_close(
        learner(inputs, "masked"), learner(inputs | {"ids": ids, "labels": labels}, "masked"), rtol=1e-6, atol=0.0
    )


@each_of_both
def test_what_is_sampled_follows_the_keys(objective, make_inputs, make_model, rows, vocabulary):
    """The same for the same seed, epoch and row, so that a resumed run makes the same steps; else another."""
    first, again = make_inputs(objective), make_inputs(objective)
    assert torch.equal(first["uniform"], again["uniform"])
    assert first["uniform"].dtype == torch.float32
    assert 0.0 <= first["uniform"].min() and first["uniform"].max() < 1.0
    options = {"seed": 0, "multiplier": 1.0, "kind": "masked", "vocabulary": vocabulary}
    other = objective.inputs(rows[:8], np.arange(8, dtype=np.uint64), epoch=1, **options)
    assert not np.array_equal(other["uniform"], first["uniform"].numpy())


# Dynamo looks at the gradient of whatever tensor it is handed, and hides the warning from all but `error` filters.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_it_is_the_same_loss(make_inputs, make_model):
    """All regions of fixed shapes in full graphs, samples included, against the eager learner; captured
    as for the compiler and then run as they are, since C++ is slow."""
    objective = Rtd()
    learner, inputs = objective.build(make_model), make_inputs(objective)
    expected = learner(inputs, "masked")
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in learner.named_parameters() if p.requires_grad}
    learner.zero_grad()
    torch.compiler.reset()
    learner.compile(dynamic=False, fullgraph=True, backend="eager")
    found = learner(inputs, "masked")
    found.backward()
    torch.compiler.reset()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for name, p in learner.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(p.grad, gradients[name], rtol=1e-3, atol=1e-4)
