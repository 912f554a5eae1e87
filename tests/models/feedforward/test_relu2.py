"""W2 relu(W1 x)^2."""

import torch
import torch.nn.functional as F

from gpuday.models.feedforward.relu2 import Relu2

X = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))


def test_relu2_is_its_formula(scatter):
    """The rectifier is squared, not the whole network."""
    network = scatter(Relu2(ratio=1.5).build(32, bias=True))
    hidden = F.linear(X, network.up.weight, network.up.bias).clamp(min=0.0) ** 2
    expected = F.linear(hidden, network.down.weight, network.down.bias)
    assert torch.allclose(network(X), expected, atol=1e-5)


def test_the_ratio_is_the_hidden_width_over_the_models():
    """Two matrices of width times hidden width."""
    assert sum(p.numel() for p in Relu2(ratio=1.5).build(32, bias=False).parameters()) == 2 * 32 * 48
    assert Relu2(ratio=1.5).flops_per_token(32) == 2 * 2 * 32 * 48
