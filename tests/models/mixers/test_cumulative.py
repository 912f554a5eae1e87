"""Weights that add up along the keys, by loops."""

import math

import pytest
import torch

from gpuday.models.mixers.cumulative import Cumulative
from gpuday.models.visible import Visible

X = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(5))
MASK = torch.arange(12) < torch.tensor([[12], [7]])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("of", ["scores", "exponentials"])
def test_a_keys_weight_adds_up_the_scores_until_it(of, causal, make_place, scatter):
    """One after another in double precision, over the keys in sight and the root of their number."""
    layer = scatter(Cumulative(head_width=16, of=of).build(make_place(position="none")))
    q, k, v = (t.double().unflatten(-1, (2, 16)).transpose(1, 2) for t in layer.qkv(X).chunk(3, dim=-1))
    mixed = torch.zeros_like(v)
    for row in range(2):
        for query in range(12):
            keys = [j for j in range(12) if MASK[row, j] and not (causal and j > query)]
            for head in range(2):
                total = 0.0
                for key in keys:
                    score = (q[row, head, query] @ k[row, head, key]).item() / 4.0
                    total += score if of == "scores" else math.exp(score)
                    weight = total if of == "scores" else math.log(total)
                    mixed[row, head, query] += weight / len(keys) ** 0.5 * v[row, head, key]
    expected = layer.out(mixed.float().transpose(1, 2).flatten(2))
    found = layer(X, Visible(MASK, causal=causal))
    torch.testing.assert_close(found[MASK], expected[MASK], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("of", ["scores", "exponentials"])
def test_hidden_keys_before_the_first_give_no_nan(of, make_place, scatter):
    """Neither answers nor gradients: a row that begins with padding has nothing to add up at first."""
    layer = scatter(Cumulative(head_width=16, of=of).build(make_place()))
    x = X.clone().requires_grad_()
    layer(x, Visible((torch.arange(12) >= 5).expand(2, -1))).square().sum().backward()
    assert torch.isfinite(x.grad).all()
