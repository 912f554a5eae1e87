"""W3 (gelu(W1 x) * W2 x), each matrix on its own."""

import torch
import torch.nn.functional as F

from gpuday.models.feedforward.geglu import Geglu

X = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))


def test_geglu_is_its_formula(scatter):
    """With the stacked matrix taken apart: the first half is the activated one, by the exact error function."""
    network = scatter(Geglu(ratio=1.5).build(32, bias=False))
    w1, w2 = network.up.weight[:48], network.up.weight[48:]
    a, b = X @ w1.T, X @ w2.T
    expected = (0.5 * a * (1 + torch.erf(a / 2**0.5)) * b) @ network.down.weight.T
    assert torch.allclose(network(X), expected, atol=1e-5)
    assert not torch.allclose(network(X), (a * F.gelu(b)) @ network.down.weight.T, atol=0.1)


def test_the_ratio_is_the_hidden_width_over_the_models():
    """Three matrices of width times hidden width."""
    assert sum(p.numel() for p in Geglu(ratio=1.5).build(32, bias=False).parameters()) == 3 * 32 * 48
    assert Geglu(ratio=1.5).flops_per_token(32) == 2 * 3 * 32 * 48
