"""Who decays and who does not, and the stepper around torch's optimizers."""

import pytest
import torch

from gpuday.core.clock import Budget
from gpuday.models.heads import MaskedLM
from gpuday.objectives.mlm import MaskedLearner
from gpuday.optim._groups import TorchStepper, decay_groups
from gpuday.presets import find, names
from gpuday.train.parameters import named_parameters


def nothing():
    """A closure that is not asked."""
    raise AssertionError("this optimizer takes the gradients as they stand")


def test_matrices_and_tables_decay_and_vectors_do_not(make_parameters):
    """Norms, biases and scalars are never decayed, by whatever name they go."""
    parameters = make_parameters()
    decayed, kept = decay_groups(parameters, lr=0.5, weight_decay=0.1)
    assert (decayed["lr"], decayed["peak"], decayed["weight_decay"]) == (0.5, 0.5, 0.1)
    assert (kept["lr"], kept["peak"], kept["weight_decay"]) == (0.5, 0.5, 0.0)
    by_tensor = {p.tensor: p.name for p in parameters}
    assert [by_tensor[t] for t in kept["params"]] == [
        "blocks.0.mixer_norm.weight",
        "blocks.0.mixer.out.bias",
        "positions.scale",
    ]
    assert len(decayed["params"]) + len(kept["params"]) == len(parameters)


NO_DECAY = (".bias", ".scale", ".skip.weight", ".of_values")


@pytest.mark.parametrize("preset", names())
def test_no_norm_bias_or_scale_of_a_presets_model_decays(preset):
    """Asked of the real models: what does not decay is exactly the norms, biases, scales and weights of sums."""
    recipe = find(preset)("nano", Budget.parse("10m"))
    with torch.device("meta"):
        learner = MaskedLearner(MaskedLM(recipe.model, vocab=512, length=16))
    parameters = named_parameters(learner)
    by_tensor = {p.tensor: p.name for p in parameters}
    decayed, kept = ([by_tensor[t] for t in g["params"]] for g in decay_groups(parameters, lr=1.0, weight_decay=0.1))
    assert all("norm" in name or name.endswith(NO_DECAY) for name in kept)
    assert not any("norm" in name or name.endswith(NO_DECAY) for name in decayed)
    assert len(decayed) + len(kept) == len(list(learner.parameters()))


def test_a_group_without_parameters_is_left_out(make_parameters):
    """torch refuses nothing, but an empty group would be saved and restored for nothing."""
    assert [g["weight_decay"] for g in decay_groups(make_parameters("vector"), lr=1.0, weight_decay=0.1)] == [0.0]
    assert [g["weight_decay"] for g in decay_groups(make_parameters("matrix"), lr=1.0, weight_decay=0.1)] == [0.1]


def test_the_multiplier_scales_each_groups_own_peak(make_parameters, give_gradients):
    """Plain SGD at peaks 1 and 10: steps of the gradient times multiplier times peak, the multiplier not adding up."""
    a, b = make_parameters("vector")[:2]
    groups = [{"params": [p.tensor], "lr": peak, "peak": peak} for p, peak in ((a, 1.0), (b, 10.0))]
    stepper = TorchStepper(torch.optim.SGD(groups), [a, b])
    before = [p.tensor.detach().clone() for p in (a, b)]
    give_gradients([a, b], 0)
    for multiplier in (0.5, 0.25, 0.0):
        stepper.step(multiplier, nothing)
    torch.testing.assert_close(a.tensor, before[0] - 0.75 * a.tensor.grad)
    torch.testing.assert_close(b.tensor, before[1] - 7.5 * b.tensor.grad)


def test_state_is_named_after_parameters(make_parameters, give_gradients):
    """`parameter/key`, so that a checkpoint can be read without knowing the order of groups."""
    parameters = make_parameters("vector")
    stepper = TorchStepper(torch.optim.AdamW(decay_groups(parameters, lr=0.1, weight_decay=0.1)), parameters)
    give_gradients(parameters, 0)
    stepper.step(1.0, nothing)
    expected = {f"{p.name}/{key}" for p in parameters for key in ("step", "exp_avg", "exp_avg_sq")}
    assert set(stepper.state()) == expected


def test_another_steppers_share_of_a_checkpoint_is_left_alone(make_parameters, give_gradients):
    """Two steppers may load the same file: each takes what is its own."""
    parameters = make_parameters("vector")
    groups = decay_groups(parameters, lr=0.1, weight_decay=0.1)
    first = TorchStepper(torch.optim.AdamW(groups), parameters)
    give_gradients(parameters, 0)
    first.step(1.0, nothing)
    second = TorchStepper(torch.optim.AdamW(groups), parameters)
    second.load({**first.state(), "elsewhere.weight/exp_avg": torch.ones(3)})
    assert second.state().keys() == first.state().keys()
