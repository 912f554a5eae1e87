"""W2 gelu(W1 x), the exact function and its tanh approximation."""

import pytest
import torch
import torch.nn.functional as F

from gpuday.models.feedforward.gelu import Gelu

X = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_its_formula(approximate, scatter):
    """With biases, and with the kind of GELU that was asked for and not the other."""
    network = scatter(Gelu(ratio=1.5, approximate=approximate).build(32, bias=True))
    up, down = network.up, network.down
    answers = {
        kind: F.linear(F.gelu(F.linear(X, up.weight, up.bias), approximate=kind), down.weight, down.bias)
        for kind in ("none", "tanh")
    }
    torch.testing.assert_close(network(X), answers[approximate], atol=1e-6, rtol=1e-5)
    assert (answers["none"] - answers["tanh"]).abs().max() > 1e-4  # so that the line above tells them apart


def test_the_ratio_is_the_hidden_width_over_the_models():
    """Two matrices of width times hidden width."""
    assert sum(p.numel() for p in Gelu(ratio=1.5).build(32, bias=False).parameters()) == 2 * 32 * 48
    assert Gelu(ratio=1.5).flops_per_token(32) == 2 * 2 * 32 * 48
