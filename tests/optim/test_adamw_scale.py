"""RMS-scaled AdamW by the formula of nanoT5."""

import torch

from gpuday.optim import Named
from gpuday.optim.adamw_scale import AdamwScale


def test_the_rate_is_relative_to_each_tensors_own_size_and_the_decay_is_not(follow, moments):
    """Adam's update times max(1e-3, rms of the weights), then the decay of what it left."""

    def formula(w, g, state, step, rate, decay):
        m, v = moments(g, state, step, 0.8, 0.95)
        w = w - rate * max(1e-3, w.square().mean().sqrt()) * m / (v.sqrt() + 1e-6)
        return w - rate * decay * w

    follow(AdamwScale(lr=0.05, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.3), formula)


def test_weights_at_zero_move_at_the_least_scale():
    """A bias starts there, and would stay there."""
    p = Named(name="a.bias", tensor=torch.nn.Parameter(torch.zeros(4)), role="vector")
    p.tensor.grad = torch.ones(4)
    AdamwScale(lr=0.5, least_scale=0.01).build([p]).step(1.0, lambda: None)
    torch.testing.assert_close(p.tensor.detach(), torch.full((4,), -0.005))
