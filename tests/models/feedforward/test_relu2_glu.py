"""W3 (relu(W1 x)^2 * W2 x), each matrix on its own."""

import torch

from gpuday.models.feedforward.relu2_glu import Relu2Glu

X = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))


def test_relu2_glu_is_its_formula(scatter):
    """With the stacked matrix taken apart: the first half is rectified and squared, the second is not."""
    network = scatter(Relu2Glu(ratio=1.5).build(32, bias=True))
    (w1, w2), (b1, b2) = network.up.weight.chunk(2), network.up.bias.chunk(2)
    hidden = (X @ w1.T + b1).clamp(min=0.0) ** 2 * (X @ w2.T + b2)
    torch.testing.assert_close(network(X), hidden @ network.down.weight.T + network.down.bias, atol=1e-5, rtol=1e-4)


def test_three_matrices_of_the_asked_hidden_width():
    """Parameters and FLOPs by count: 32 to 48 twice, and back."""
    config = Relu2Glu(ratio=1.5)
    assert sum(p.numel() for p in config.build(32, bias=False).parameters()) == 3 * 32 * 48
    assert config.flops_per_token(32) == 9216
