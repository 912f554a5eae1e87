"""Stacks of matrices: what a rule gets, where its update goes, and who decays."""

import pytest
import torch

from gpuday.optim import Named
from gpuday.optim._stacks import StackRule, StackStepper, eigen, units
from gpuday.optim.sgd import Sgd

REST = Sgd(lr=1.0, momentum=0.0, nesterov=False, weight_decay=0.0)


def stepper_of(parameters, update, **options):
    """Matrices by this update, everything else by the gradient at rate 1."""
    rule = StackRule(start=lambda n, r, c, device: {"seen": torch.zeros(n, r, c)}, update=update)
    return StackStepper(parameters, rule, REST.build, **{"lr": 0.5, "weight_decay": 0.0, **options})


def test_matrices_of_one_shape_come_in_one_stack_fused_ones_apart(make_parameters, give_gradients):
    """Three of q, k, v and one of the output are a stack of four; an update equal to the gradient is gradient descent."""
    shapes = []

    def update(gradient, state):
        shapes.append(tuple(gradient.shape))
        return gradient.to(torch.bfloat16).float()

    parameters = make_parameters()
    before = [p.tensor.detach().clone() for p in parameters]
    give_gradients(parameters, 0)
    stepper_of(parameters, update).step(0.5, lambda: None)
    assert sorted(shapes) == [(2, 32, 64), (2, 64, 32), (4, 32, 32)]
    for p, was in zip(parameters, before, strict=True):
        rate, gradient = (0.25, p.tensor.grad.bfloat16().float()) if p.role == "matrix" else (0.5, p.tensor.grad)
        torch.testing.assert_close(p.tensor.detach(), was - rate * gradient)


def test_the_state_of_a_stack_is_named_by_its_shape(make_parameters):
    """So that a checkpoint can be read without knowing the order of parameters."""
    assert set(stepper_of(make_parameters(), lambda g, s: g).state()) == {"seen/32x32", "seen/64x32", "seen/32x64"}


def test_matrices_alone_need_no_rest(make_parameters, give_gradients):
    """A model without biases may have nothing else in a group."""
    parameters = make_parameters("matrix")
    give_gradients(parameters, 0)
    before = parameters[1].tensor.detach().clone()
    stepper_of(parameters, lambda g, s: g).step(1.0, lambda: None)
    torch.testing.assert_close(parameters[1].tensor.detach(), before - 0.5 * parameters[1].tensor.grad)


@pytest.mark.parametrize("cautious", [True, False])
def test_cautious_decay_spares_what_the_update_takes_away_from_zero(cautious):
    """By hand: rate 0.5, decay 0.2, update u. w - 0.5 (u + 0.2 w), the decay left out where u w < 0."""
    weights, update = torch.tensor([[2.0, -2.0, 2.0, -2.0, 2.0]]), torch.tensor([[1.0, 1.0, -1.0, -1.0, 0.0]])
    p = Named(name="a.weight", tensor=torch.nn.Parameter(weights.clone()), role="matrix")
    p.tensor.grad = update.clone()
    stepper_of([p], lambda g, s: g, weight_decay=0.1, cautious=cautious).step(1.0, lambda: None, decay=2.0)
    decayed = torch.tensor([[True, not cautious, not cautious, True, True]])
    torch.testing.assert_close(p.tensor.detach(), weights - 0.5 * (update + 0.2 * weights * decayed))


@pytest.mark.parametrize("at", [set(), {torch.float32}], ids=["fp32", "fp64"])
def test_eigenvectors_are_found_by_fp64_where_fp32_does_not_converge(eigh_that_fails, at):
    """In the dtype that was given either way: the matrix is what they make of it."""
    eigh_that_fails.at = at
    half = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0))
    stack = half @ half.mT
    values, vectors = eigen(stack)
    assert values.dtype == vectors.dtype == torch.float32
    torch.testing.assert_close((vectors * values[:, None, :]) @ vectors.mT, stack, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_decomposed_is_nothing(eigh_that_fails):
    """And no fault that ends a run: the optimizer goes on with what it had."""
    eigh_that_fails.at = {torch.float32, torch.float64}
    assert eigen(torch.eye(3)[None]) is None


def test_unit_matrices_are_written_into_one_by_one():
    """Each has its own memory."""
    stack = units(2, 3, torch.device("cpu"))
    stack[0].zero_()
    assert torch.equal(stack[1], torch.eye(3))
