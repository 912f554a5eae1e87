"""Schedule-free AdamW with its three sequences written out, and what is evaluated."""

import pytest
import torch

from gpuday.optim.schedule_free import ScheduleFree


def sequences(w, g, state, step, rate, decay):
    """z, x and y of the paper, with the bias correction and the decay at y of the authors' reference code."""
    z, x, y = state.get("z", w), state.get("x", w), w
    state["v"] = 0.95 * state.get("v", 0.0) + 0.05 * g * g
    z = z - rate * (g / ((state["v"] / (1 - 0.95**step)).sqrt() + 1e-6) + decay * y)
    state["total"] = state.get("total", 0.0) + rate**2
    c = rate**2 / state["total"]
    state["z"], state["x"] = z, (1 - c) * x + c * z
    return 0.2 * z + 0.8 * state["x"]


KNOBS = {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.3}


def test_the_parameters_hold_y(follow):
    """Without ever holding x, five steps give the y of all three sequences."""
    follow(ScheduleFree(**KNOBS), sequences)


def test_the_average_is_shown_inside_and_y_is_back_to_the_bit_outside(make_parameters, give_gradients):
    """x by the three sequences; an exception in the block changes nothing about that."""
    (p,) = make_parameters("embedding")
    stepper, state, y = ScheduleFree(**KNOBS).build([p]), {}, p.tensor.detach().double()
    for step in range(1, 6):
        give_gradients([p], step)
        y = sequences(y, p.tensor.grad.double(), state, step, 0.05, 0.3)
        stepper.step(1.0, lambda: None)
    before = p.tensor.detach().clone()
    with pytest.raises(ZeroDivisionError), stepper.evaluation():
        torch.testing.assert_close(p.tensor.detach().double(), state["x"], atol=1e-6, rtol=1e-5)
        raise ZeroDivisionError
    assert torch.equal(p.tensor.detach(), before)
    assert (state["x"] - y).norm() > 0.01


def test_what_a_warm_up_did_counts_little_in_the_average(make_parameters, give_gradients):
    """A step at a tenth of the rate weighs a hundredth: after one of each, x is z's second place but for 1 / 101."""
    (p,) = make_parameters("embedding")
    stepper = ScheduleFree(**KNOBS).build([p])
    places = []
    for step, multiplier in ((0, 0.1), (1, 1.0)):
        give_gradients([p], step)
        stepper.step(multiplier, lambda: None)
        places.append(stepper.state()["embedding.weight/z"].clone())
    with stepper.evaluation():
        torch.testing.assert_close(p.tensor.detach(), places[0] / 101 + places[1] * 100 / 101)


def test_before_the_first_step_the_weights_are_shown_as_they_are(make_parameters):
    """The first look at held-out text is at the initial weights."""
    (p,) = make_parameters("embedding")
    before = p.tensor.detach().clone()
    with ScheduleFree().build([p]).evaluation():
        torch.testing.assert_close(p.tensor.detach(), before)
