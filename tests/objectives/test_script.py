"""One encoder that predicts and criticises."""

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.objectives.script import Script


def test_generator_and_critic_are_one_encoder(make_model):
    """Made once; what is trained is the model and the critic's head, the head for masked tokens included."""
    made = []
    learner = Script().build(lambda: made.append(make_model()) or made[-1])
    assert len(made) == 1
    assert learner.predictor is learner.model is made[0]
    assert learner.generator is None
    assert all(p.requires_grad for p in learner.parameters())
    names = {name.split(".")[0] for name, _ in learner.named_parameters()}
    assert names == {"model", "critic"}


def test_both_passes_train_the_encoder(rows, vocabulary, make_model):
    """Without the criticism its gradients are others."""
    gradients = []
    for weight in (0.0, 1.0):
        objective = Script(weight=weight)
        learner = objective.build(make_model)
        arrays = objective.inputs(
            rows, rows[:, 0].astype("uint64"), seed=0, epoch=0, multiplier=1.0, kind="masked", vocabulary=vocabulary
        )
        learner({name: torch.from_numpy(array) for name, array in arrays.items()}, "masked").backward()
        gradients.append([p.grad for p in learner.model.encoder.parameters()])
    assert not any(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_weight_below_zero_is_refused():
    """It would teach the critic to be wrong."""
    with pytest.raises(UsageError):
        Script(weight=-1.0)
