"""softmax(scale cos(q, k))."""

import pytest
import torch
import torch.nn.functional as F

from gpuday.core.errors import UsageError
from gpuday.models.mixers.cosine import Cosine
from gpuday.models.visible import Visible

X = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(5))


def test_it_is_the_softmax_of_scaled_cosines(make_place, scatter):
    """By torch's cosine of every pair, with another scale for each head, one of them beyond the bound of 100."""
    layer = scatter(Cosine(head_width=16).build(make_place(position="none")))
    with torch.no_grad():
        layer.temperature.log.copy_(torch.tensor([7.0, 500.0]).log() - torch.tensor(16.0).log() / 2)
    q, k, v = (t.unflatten(-1, (2, 16)).transpose(1, 2) for t in layer.qkv(X).chunk(3, dim=-1))
    cosines = F.cosine_similarity(q[:, :, :, None], k[:, :, None], dim=-1)
    weights = torch.softmax(torch.tensor([7.0, 100.0]).view(2, 1, 1) * cosines, dim=-1)
    expected = layer.out((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(X, Visible()), expected, atol=1e-4, rtol=1e-4)


def test_every_head_begins_with_the_same_scale(make_place):
    """`start` is what cosines are multiplied by, whatever the width of a head."""
    for head_width in (8, 16):
        layer = Cosine(head_width=head_width, start=14.0).build(make_place())
        assert (layer.temperature.log.exp() * head_width**0.5).tolist() == pytest.approx([14.0] * (32 // head_width))


def test_a_scale_beyond_its_bound_is_refused():
    """It could not move."""
    with pytest.raises(UsageError, match=r"start is 200"):
        Cosine(start=200.0)
