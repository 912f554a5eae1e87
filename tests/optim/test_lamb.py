"""LAMB by algorithm 2 of its paper."""

import torch

from gpuday.optim import Named
from gpuday.optim.lamb import Lamb


def test_matrices_and_tables_move_by_the_rate_times_their_length(follow, moments):
    """The ratio is of the weights to the update with its decay, for each fused matrix on its own."""

    def formula(w, g, state, step, rate, decay):
        m, v = moments(g, state, step, 0.8, 0.95)
        update = m / (v.sqrt() + 1e-6) + decay * w
        return w - rate * w.norm() / update.norm() * update

    optimizer = Lamb(lr=0.05, beta1=0.8, beta2=0.95, weight_decay=0.3)
    follow(optimizer, formula, role="matrix")
    follow(optimizer, formula, role="embedding")


def test_vectors_move_as_in_adam(follow, moments):
    """Norms, biases and scalars have no ratio and no decay."""

    def formula(w, g, state, step, rate, decay):
        m, v = moments(g, state, step, 0.8, 0.95)
        return w - rate * m / (v.sqrt() + 1e-6)

    follow(Lamb(lr=0.05, beta1=0.8, beta2=0.95, weight_decay=0.3), formula, role="vector")


def test_a_matrix_of_zeros_can_leave_zero():
    """Its length would make every update zero for good; the ratio is 1 then."""
    p = Named(name="a.weight", tensor=torch.nn.Parameter(torch.zeros(3, 4)), role="matrix")
    p.tensor.grad = torch.ones(3, 4)
    Lamb(lr=0.5).build([p]).step(1.0, lambda: None)
    torch.testing.assert_close(p.tensor.detach(), torch.full((3, 4), -0.5))
