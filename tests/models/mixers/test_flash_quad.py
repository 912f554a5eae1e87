"""The gated attention unit by its formula."""

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.models.encoder import Encoder, EncoderConfig
from gpuday.models.mixers.flash_quad import FlashQuad
from gpuday.models.shapes.plain import Plain
from gpuday.models.visible import Visible

X = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(5))
MASK = torch.arange(12) < torch.tensor([[12], [7]])


def silu(x):
    return x * torch.sigmoid(x)


def test_it_is_the_papers_formula(make_place, scatter):
    """u, v and z by matrices of their own, one query and key from z, relu(q k / n)^2 by loops over real keys."""
    layer = scatter(FlashQuad(ratio=1.5, head_width=8).build(make_place(position="none")))
    (wu, wv), (bu, bv) = layer.up.weight.chunk(2), layer.up.bias.chunk(2)
    u, v, z = silu(X @ wu.T + bu), silu(X @ wv.T + bv), silu(layer.narrow(X))
    q, k = z * layer.q_scale + layer.q_shift, z * layer.k_scale + layer.k_shift
    mixed = torch.zeros_like(v)
    for row, n in ((0, 12), (1, 7)):
        for query in range(12):
            for key in range(n):
                weight = max(0.0, (q[row, query] @ k[row, key]).item() / n) ** 2
                mixed[row, query] += weight * v[row, key]
    assert v.shape[-1] == 48
    torch.testing.assert_close(layer(X, Visible(MASK)), layer.out(u * mixed), atol=1e-5, rtol=1e-4)


def test_it_stands_alone_without_feedforward_networks():
    """The paper's model: blocks of one unit each, no other network, every weight with a gradient."""
    config = EncoderConfig(
        width=32, shape=Plain(layers=2), mixer=FlashQuad(head_width=8), feedforward_every=0, position="rotary"
    )
    encoder = Encoder(config, vocab=50, length=16)
    assert not any("feedforward" in name for name, _ in encoder.named_parameters())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.copy_(1.0 + torch.randn(weight.shape, generator=generator) * 0.3)
    encoder(torch.randint(0, 50, (2, 16), generator=generator)).pow(3).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", ["q_scale", "k_scale"])
def test_scales_are_not_rounded_to_the_dtype_of_the_activations(name, make_place, scatter):
    """1.003 is 1 in bf16: a sum of many small steps would never leave it."""
    layer = scatter(FlashQuad(head_width=16).build(make_place()))
    found = []
    for value in (1.0, 1.003):
        with torch.no_grad():
            getattr(layer, name).fill_(value)
        found.append(layer(X.bfloat16(), Visible()))
    assert found[0].dtype == torch.bfloat16
    assert not torch.equal(*found)


def test_new_units_answer_with_numbers_of_some_size(make_place):
    """Scales of queries and keys start at one: with the paper's small ones and no bias, weights would start at 1e-12."""
    layer = FlashQuad(head_width=16).build(make_place())
    assert [p.unique().tolist() for p in (layer.q_scale, layer.k_scale)] == [[1.0], [1.0]]
    assert not any(p.any() for p in (layer.q_shift, layer.k_shift))


def test_matrices_say_what_optimizer_and_initialisation_ask(make_place):
    """u and v are two matrices in one, and the last writes into the residual stream."""
    layer = FlashQuad(head_width=16).build(make_place())
    assert [(m.fused, m.is_output) for m in (layer.up, layer.narrow, layer.out)] == [(2, False), (1, False), (1, True)]


@pytest.mark.parametrize("knobs", [{"head_width": 7}, {"ratio": 0.0}])
def test_widths_of_nothing_are_refused(knobs):
    """Rotary positions need an even width, and values some width at all."""
    with pytest.raises(UsageError):
        FlashQuad(**knobs)
