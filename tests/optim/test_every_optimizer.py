"""What holds for an optimizer of any kind; a new file in the folder is enrolled by being there."""

import dataclasses

import pytest
import safetensors.torch
import torch

from gpuday.core import parts
from gpuday.optim import Named, Optimizer

every_optimizer = pytest.mark.parametrize("name", parts.names(Optimizer))


@pytest.fixture
def take_steps(give_gradients):
    """Steps first to last - 1 at falling rates, gradients by step; a closure that asks again gets the same ones."""

    def take(stepper, parameters, first, last):
        for step in range(first, last):
            give_gradients(parameters, step)
            stepper.step(1.0 - 0.1 * step, lambda now=step: give_gradients(parameters, now))

    return take


@every_optimizer
def test_three_steps_saved_loaded_and_three_more_equal_six(name, make_parameters, take_steps):
    """To the bit, through the bytes of a checkpoint, in a stepper built anew."""
    straight = make_parameters()
    take_steps(parts.find(Optimizer, name)().build(straight), straight, 0, 6)
    before = make_parameters()
    first = parts.find(Optimizer, name)().build(before)
    take_steps(first, before, 0, 3)
    saved = safetensors.torch.save(first.state())
    after = [dataclasses.replace(p, tensor=torch.nn.Parameter(p.tensor.detach().clone())) for p in before]
    second = parts.find(Optimizer, name)().build(after)
    second.load(safetensors.torch.load(saved))
    take_steps(second, after, 3, 6)
    for one, two in zip(straight, after, strict=True):
        assert torch.equal(one.tensor, two.tensor), one.name


@every_optimizer
def test_the_state_that_was_loaded_is_the_state_that_is_saved(name, make_parameters, take_steps):
    """Nothing is added, lost, renamed or rounded on the way."""
    parameters = make_parameters()
    stepper = parts.find(Optimizer, name)().build(parameters)
    take_steps(stepper, parameters, 0, 2)
    state = {key: tensor.clone() for key, tensor in stepper.state().items()}
    again = parts.find(Optimizer, name)().build(make_parameters())
    again.load(state)
    back = again.state()
    assert back.keys() == state.keys()
    for key, tensor in state.items():
        assert (back[key].dtype, back[key].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(back[key], tensor), key


@every_optimizer
def test_a_state_with_a_tensor_missing_is_refused(name, make_parameters, take_steps):
    """Whichever it is: `load` raises KeyError, and no run goes on with half of its state."""
    parameters = make_parameters()
    stepper = parts.find(Optimizer, name)().build(parameters)
    take_steps(stepper, parameters, 0, 2)
    state = {key: tensor.clone() for key, tensor in stepper.state().items()}
    taken = []
    for missing in state:
        again = parts.find(Optimizer, name)().build(make_parameters())
        try:
            again.load({key: tensor.clone() for key, tensor in state.items() if key != missing})
        except KeyError:
            continue
        taken.append(missing)
    assert taken == []


@every_optimizer
def test_without_gradient_norms_biases_and_scales_stay(name, make_parameters, give_gradients):
    """Vectors do not decay, whatever the optimizer does to matrices."""
    parameters = make_parameters()
    before = [p.tensor.detach().clone() for p in parameters]
    give_gradients(parameters, 0, scale=0.0)
    parts.find(Optimizer, name)().build(parameters).step(1.0, lambda: None)
    for p, was in zip(parameters, before, strict=True):
        if p.role == "vector":
            assert torch.equal(p.tensor, was), p.name
        assert (p.tensor.abs() <= was.abs()).all(), p.name


@every_optimizer
def test_a_step_at_multiplier_zero_moves_nothing(name, make_parameters, take_steps, give_gradients):
    """Rate zero is no update and no decay, with momentum already there."""
    parameters = make_parameters()
    stepper = parts.find(Optimizer, name)().build(parameters)
    take_steps(stepper, parameters, 0, 2)
    before = [p.tensor.detach().clone() for p in parameters]
    give_gradients(parameters, 2)
    stepper.step(0.0, lambda: give_gradients(parameters, 2))
    assert all(torch.equal(p.tensor, was) for p, was in zip(parameters, before, strict=True))


@every_optimizer
def test_an_optimizer_finds_the_bottom_of_a_bowl(name, make_parameters):
    """Fifty steps on half the sum of squares, at a rate falling to zero: every parameter comes nearer to zero."""
    parameters = [
        Named(name=p.name, tensor=torch.nn.Parameter(0.05 * p.tensor.detach()), role=p.role, fused=p.fused)
        for p in make_parameters()
    ]
    before = [p.tensor.detach().norm().item() for p in parameters]
    stepper = parts.find(Optimizer, name)().build(parameters)

    def gradients():
        for p in parameters:
            p.tensor.grad = p.tensor.detach().clone()

    for step in range(50):
        gradients()
        stepper.step(1.0 - step / 50, gradients)
    for p, was in zip(parameters, before, strict=True):
        assert p.tensor.detach().norm().item() < 0.8 * was, p.name


@every_optimizer
def test_the_weights_are_the_same_after_the_look_at_the_evaluation_weights(name, make_parameters, take_steps):
    """Whatever an optimizer shows inside the block, training goes on with what it had."""
    parameters = make_parameters()
    stepper = parts.find(Optimizer, name)().build(parameters)
    take_steps(stepper, parameters, 0, 2)
    before = [p.tensor.detach().clone() for p in parameters]
    with stepper.evaluation():
        assert all(torch.isfinite(p.tensor).all() for p in parameters)
    assert all(torch.equal(p.tensor, was) for p, was in zip(parameters, before, strict=True))
