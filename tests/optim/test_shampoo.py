"""Shampoo one matrix at a time in double precision, with another library's matrix powers."""

import pytest
import scipy.linalg
import torch

from gpuday.optim.shampoo import Shampoo, inverse_fourth_root


def power(matrix):
    """A^(-1/4) by scipy's Schur-Pade method."""
    return torch.from_numpy(scipy.linalg.fractional_matrix_power(matrix.numpy(), -0.25).real)


@pytest.mark.parametrize("interval", [1, 3])
def test_shampoo_equals_one_matrix_at_a_time(follow, moments, interval):
    """The momentum between two inverse fourth roots of what forgets, as long as Adam's update, roots kept in between."""

    def formula(w, g, state, step, rate, decay):
        m, v = moments(g, state, step, 0.8, 0.9)
        for side, gram in (("l", g @ g.T), ("r", g.T @ g)):
            state[side] = 0.9 * state.get(side, 0.0) + 0.1 * gram
            if (step - 1) % interval == 0:
                greatest = torch.linalg.eigvalsh(state[side])[-1]
                state[f"{side}_root"] = power(state[side] + 0.01 * greatest * torch.eye(len(gram)).double())
        adam, update = m / (v.sqrt() + 1e-6), state["l_root"] @ m @ state["r_root"]
        return w * (1 - rate * decay) - rate * update * adam.norm() / update.norm()

    optimizer = Shampoo(lr=0.05, beta1=0.8, beta2=0.9, eps=0.01, graft_eps=1e-6, interval=interval, weight_decay=0.3)
    follow(optimizer, formula, role="matrix")


def test_the_first_update_without_length_is_the_orthogonal_factor(make_parameters):
    """(G G^T)^(-1/4) G (G^T G)^(-1/4) = U V^T: Shampoo that has seen one gradient is Muon."""
    matrix = torch.randn(1, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(matrix)
    left, right = inverse_fourth_root(matrix @ matrix.mT, 1e-12), inverse_fourth_root(matrix.mT @ matrix, 1e-12)
    torch.testing.assert_close(left @ matrix @ right, u @ vh, atol=1e-4, rtol=0.0)


def test_the_root_of_nothing_is_finite():
    """Statistics of a gradient that is zero."""
    assert torch.isfinite(inverse_fourth_root(torch.zeros(2, 3, 3), 1e-6)).all()


def test_statistics_that_fp64_cannot_decompose_either_leave_the_roots(make_parameters, give_gradients, eigh_that_fails):
    """At first unit matrices, with which the update is the momentum, as long as Adam's; then what was found before."""
    parameters = make_parameters("matrix")
    before = [p.tensor.detach().clone() for p in parameters]
    stepper = Shampoo(interval=1, weight_decay=0.0).build(parameters)
    eigh_that_fails.at = {torch.float32, torch.float64}
    give_gradients(parameters, 0)
    stepper.step(1.0, lambda: None)
    for p, was in zip(parameters, before, strict=True):
        move, gradient = (t.reshape(p.fused, -1) for t in (was - p.tensor.detach(), p.tensor.grad))
        assert torch.cosine_similarity(move, gradient).min() > 0.9999, p.name
    eigh_that_fails.at = set()
    give_gradients(parameters, 1)
    stepper.step(1.0, lambda: None)
    found = {name: tensor.clone() for name, tensor in stepper.state().items() if "_root" in name}
    eigh_that_fails.at = {torch.float32, torch.float64}
    give_gradients(parameters, 2)
    stepper.step(1.0, lambda: None)
    assert found
    assert all(torch.equal(stepper.state()[name], tensor) for name, tensor in found.items())
    assert all(torch.isfinite(p.tensor).all() for p in parameters)
