"""Weights that are the scores, normed or scaled, by loops over queries."""

import pytest
import torch

from gpuday.models.mixers.affine import Affine
from gpuday.models.visible import Visible

X = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(5))
MASK = torch.arange(12) < torch.tensor([[12], [7]])


def by_loops(layer, weigh):
    """Each query's scores over the keys that it sees, weighed by a function of one vector; [2, 12, 32]."""
    q, k, v = (t.unflatten(-1, (2, 16)).transpose(1, 2) for t in layer.qkv(X).chunk(3, dim=-1))
    mixed = torch.zeros_like(v)
    for row in range(2):
        real = MASK[row].nonzero().flatten()
        for head in range(2):
            for query in range(12):
                scores = k[row, head, real] @ q[row, head, query] / 4.0
                mixed[row, head, query] = weigh(scores, head) @ v[row, head, real]
    return layer.out(mixed.transpose(1, 2).flatten(2))


def test_scores_are_normed_over_the_keys_in_sight(make_place, scatter):
    """Mean 0, variance 1, then the head's gain and shift, over the root of their number."""
    layer = scatter(Affine(head_width=16).build(make_place(position="none")))
    gain, shift = layer.weights.weigh.gain, layer.weights.weigh.shift

    def weigh(scores, head):
        unit = (scores - scores.mean()) / (scores.var(correction=0) + 1e-5).sqrt()
        return (gain[head] * unit + shift[head]) / len(scores) ** 0.5

    torch.testing.assert_close(layer(X, Visible(MASK)), by_loops(layer, weigh), atol=1e-5, rtol=1e-4)


def test_scores_are_only_scaled_where_asked(make_place, scatter):
    """The identity over the root of the number of keys, and no weights to learn."""
    layer = scatter(Affine(head_width=16, normed=False).build(make_place(position="none")))
    expected = by_loops(layer, lambda scores, _head: scores / len(scores) ** 0.5)
    torch.testing.assert_close(layer(X, Visible(MASK)), expected, atol=1e-5, rtol=1e-4)
    assert {name.split(".")[0] for name, _ in layer.named_parameters()} == {"qkv", "out"}


@pytest.mark.parametrize("length", [1, 2])
def test_a_single_key_gives_no_nan(length, make_place, scatter):
    """Nor its gradient: the variance of one score is zero."""
    layer = scatter(Affine(head_width=16).build(make_place()))
    x = X[:, :length].clone().requires_grad_()
    layer(x, Visible()).square().sum().backward()
    assert torch.isfinite(x.grad).all()
