"""Norms against torch's own modules and against the formula."""

import pytest
import torch

from gpuday.models.norm import Norm


@pytest.fixture
def x():
    return 3.0 * torch.randn(4, 5, 32, generator=torch.Generator().manual_seed(0)) + 1.0


@pytest.mark.parametrize("bias", [True, False])
def test_layernorm_equals_torchs(x, bias, scatter):
    """Same weights, same eps, same numbers to the bit."""
    ours = scatter(Norm(32, kind="layernorm", eps=1e-3, bias=bias))
    theirs = torch.nn.LayerNorm(32, eps=1e-3, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), theirs(x))


def test_rmsnorm_equals_torchs(x, scatter):
    """Same weight, same eps; torch's has no bias."""
    ours = scatter(Norm(32, kind="rmsnorm", eps=1e-3, bias=False))
    theirs = torch.nn.RMSNorm(32, eps=1e-3)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), theirs(x))


def test_norms_of_a_small_row_by_hand():
    """[1, 2, 3, 6]: mean 3, variance 3.5, mean square 12.5; eps stands inside the root."""
    row = torch.tensor([1.0, 2.0, 3.0, 6.0])
    centred = Norm(4, kind="layernorm", eps=0.5, bias=False)(row)
    assert torch.allclose(centred, torch.tensor([-2.0, -1.0, 0.0, 3.0]) / 2.0)
    plain = Norm(4, kind="rmsnorm", eps=3.5, bias=False)(row)
    assert torch.allclose(plain, row / 4.0)


def test_rmsnorm_may_have_a_bias(x, scatter):
    """The shift is added after the scale."""
    ours = scatter(Norm(32, kind="rmsnorm", eps=1e-6, bias=True))
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * ours.weight + ours.bias
    assert torch.allclose(ours(x), expected, atol=1e-6)


def test_scalenorm_of_a_small_row_by_hand():
    """[3, 4] has length 5; the factor begins at the root of the width, and eps is the least length."""
    norm = Norm(2, kind="scalenorm", eps=1e-5, bias=False)
    assert torch.allclose(norm(torch.tensor([3.0, 4.0])), 2**0.5 * torch.tensor([0.6, 0.8]))
    assert [(n, p.shape, p.item()) for n, p in norm.named_parameters()] == [("weight", (), pytest.approx(2**0.5))]
    assert norm(torch.zeros(2)).tolist() == [0.0, 0.0]
    floored = Norm(2, kind="scalenorm", eps=0.5, bias=False)(torch.tensor([0.3, 0.0]))
    assert torch.allclose(floored, 2**0.5 * torch.tensor([0.6, 0.0]))


def test_a_fresh_scalenorm_is_rmsnorm(x):
    """sqrt(D) / |x| is one over the root of the mean square."""
    scale, rms = (Norm(32, kind=kind, eps=1e-12, bias=False)(x) for kind in ("scalenorm", "rmsnorm"))
    torch.testing.assert_close(scale, rms)


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm", "scalenorm"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_without_scale_is_a_fresh_one(x, kind, bias):
    """The same numbers and no parameter but the shift."""
    bare = Norm(32, kind=kind, eps=1e-5, bias=bias, scale=False)
    assert torch.equal(bare(x), Norm(32, kind=kind, eps=1e-5, bias=bias)(x))
    assert [name for name, _ in bare.named_parameters()] == (["bias"] if bias else [])


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm", "scalenorm"])
def test_a_norm_of_bf16_is_taken_in_fp32(x, kind, scatter):
    """Only input and output are rounded: the result is the fp32 norm of the rounded input, rounded once."""
    norm = scatter(Norm(32, kind=kind, eps=1e-5, bias=True))
    low = x.bfloat16()
    assert norm(low).dtype == torch.bfloat16
    assert torch.equal(norm(low), norm(low.float()).bfloat16())


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_a_fresh_norm_scales_by_one_and_shifts_by_zero(kind):
    """What initialisation relies on when it leaves vectors alone."""
    norm = Norm(8, kind=kind, eps=1e-5, bias=True)
    assert norm.weight.tolist() == [1.0] * 8
    assert norm.bias.tolist() == [0.0] * 8


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_a_norm_without_bias_has_one_parameter(kind):
    """No shift that is there and unused."""
    assert [name for name, _ in Norm(8, kind=kind, eps=1e-5, bias=False).named_parameters()] == ["weight"]
