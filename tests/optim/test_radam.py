"""RAdam by the formulas of its paper."""

import math

import pytest

from gpuday.core.errors import UsageError
from gpuday.optim.radam import Radam


def test_radam_rectifies_once_the_second_moment_is_certain_enough(follow, moments):
    """Momentum alone while rho <= 5, which ends at the sixth step; then Adam times the rectification."""
    rectified = []

    def formula(w, g, state, step, rate, decay):
        m, v = moments(g, state, step, 0.8, 0.9)
        most = 2 / (1 - 0.9) - 1
        rho = most - 2 * step * 0.9**step / (1 - 0.9**step)
        w = w * (1 - rate * decay)
        rectified.append(rho > 5)
        if rho <= 5:
            return w - rate * m
        r = math.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
        return w - rate * r * m / (v.sqrt() + 1e-6)

    follow(Radam(lr=0.05, beta1=0.8, beta2=0.9, eps=1e-7, weight_decay=0.3), formula, steps=8)
    assert {True, False} <= set(rectified)


@pytest.mark.parametrize("beta2", [0.0, 0.5, 2 / 3])
def test_a_second_moment_that_is_never_used_is_refused(beta2):
    """rho comes to 2 / (1 - beta2) - 1 in the end, which is 5 at two thirds: what is below would be plain momentum."""
    with pytest.raises(UsageError, match="plain momentum") as caught:
        Radam(beta2=beta2)
    assert caught.value.where == "optimizer.beta2"


def test_a_second_moment_above_two_thirds_is_used_in_the_end(make_parameters, give_gradients):
    """Gradients a thousand times larger do not move weights a thousand times further: after enough steps it divides them."""
    moved = []
    for scale in (1e-3, 1.0):
        (p,) = make_parameters("embedding")
        stepper = Radam(beta2=0.7, weight_decay=0.0).build([p])
        for step in range(40):
            before = p.tensor.detach().clone()
            give_gradients([p], step, scale=scale)
            stepper.step(1.0, lambda: None)
        moved.append((p.tensor.detach() - before).norm().item())
    assert moved[1] == pytest.approx(moved[0], rel=0.01)
