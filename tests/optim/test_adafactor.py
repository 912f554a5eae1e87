"""Adafactor by the formulas of its paper."""

import math

from gpuday.optim.adafactor import Adafactor


def rms(x):
    return x.square().mean().sqrt()


def test_adafactor_follows_its_paper(follow):
    """Factored moments of matrices, whole ones of vectors, decay 1 - t^-0.8, updates clipped, rates relative to the weights."""

    def formula(w, g, state, step, rate, decay):
        beta = 1 - step**-0.8
        square = g * g + 1e-30
        if g.dim() > 1:
            state["r"] = beta * state.get("r", 0.0) + (1 - beta) * square.sum(1, keepdim=True)
            state["c"] = beta * state.get("c", 0.0) + (1 - beta) * square.sum(0, keepdim=True)
            second = state["r"] * state["c"] / state["r"].sum()
        else:
            state["v"] = beta * state.get("v", 0.0) + (1 - beta) * square
            second = state["v"]
        update = g / second.sqrt()
        update = update / max(1.0, rms(update) / 1.0)
        size = max(1e-3, rms(w)) * min(rate, 1 / math.sqrt(step))
        return w * (1 - rate * decay) - size * update

    follow(Adafactor(lr=0.05, weight_decay=0.3), formula, whole=True)


def test_small_gradients_move_weights_as_far_as_large_ones(make_parameters, give_gradients):
    """A million times smaller, from a start of one size: the moments are relative, and no epsilon gets in between."""
    moved = []
    for scale in (1.0, 1e-6):
        parameters = make_parameters("matrix")
        before = [p.tensor.detach().clone() for p in parameters]
        stepper = Adafactor().build(parameters)
        for step in range(3):
            give_gradients(parameters, step, scale=scale)
            stepper.step(1.0, lambda: None)
        moved.append([p.tensor.detach() - was for p, was in zip(parameters, before, strict=True)])
    for large, small in zip(*moved, strict=True):
        assert (large - small).norm() < 1e-3 * large.norm()
