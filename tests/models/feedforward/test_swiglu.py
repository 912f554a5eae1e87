"""W3 (silu(W1 x) * W2 x), each matrix on its own."""

import torch
import torch.nn.functional as F

from gpuday.models.feedforward.swiglu import Swiglu

X = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))


def test_swiglu_is_its_formula(scatter):
    """With the stacked matrix taken apart: the first half is the activated one."""
    network = scatter(Swiglu(ratio=1.5).build(32, bias=False))
    w1, w2 = network.up.weight[:48], network.up.weight[48:]
    a, b = X @ w1.T, X @ w2.T
    expected = (a * torch.sigmoid(a) * b) @ network.down.weight.T
    assert torch.allclose(network(X), expected, atol=1e-5)
    assert not torch.allclose(network(X), (a * F.silu(b)) @ network.down.weight.T, atol=0.1)


def test_the_ratio_is_the_hidden_width_over_the_models():
    """Three matrices of width times hidden width."""
    assert sum(p.numel() for p in Swiglu(ratio=1.5).build(32, bias=False).parameters()) == 3 * 32 * 48
    assert Swiglu(ratio=1.5).flops_per_token(32) == 2 * 3 * 32 * 48
