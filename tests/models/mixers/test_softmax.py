"""Softmax attention against torch's, against loops written out, and what it must not see."""

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.visible import Visible

ROWS, LENGTH, WIDTH, HEAD = 3, 16, 32, 16


def allowed_by_loops(length, half, mask):
    """allowed[b, i, j]: key j is real and at distance `half` at most of query i (0: any distance)."""
    near = [[half == 0 or abs(i - j) <= half for j in range(length)] for i in range(length)]
    return torch.tensor([[[near[i][j] and row[j] for j in range(length)] for i in range(length)] for row in mask])


def padding(lengths, length=LENGTH):
    return torch.tensor([[j < n for j in range(length)] for n in lengths])


@pytest.fixture
def x():
    return torch.randn(ROWS, LENGTH, WIDTH, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_equals_torchs_multihead_attention(x, bias, make_place, scatter):
    """Without positions and with a padding mask, after copying the four matrices."""
    ours = scatter(Softmax(head_width=HEAD).build(make_place(rotary=False, bias=bias)))
    theirs = torch.nn.MultiheadAttention(WIDTH, WIDTH // HEAD, bias=bias, batch_first=True)
    names = {"in_proj_weight": "qkv.weight", "out_proj.weight": "out.weight"}
    names |= {"in_proj_bias": "qkv.bias", "out_proj.bias": "out.bias"} if bias else {}
    theirs.load_state_dict({there: ours.state_dict()[here] for there, here in names.items()})
    mask = padding([16, 9, 3])
    expected, _ = theirs(x, x, x, key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, Visible(mask)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [0, 6])
@pytest.mark.parametrize("rotary", [True, False])
def test_padded_keys_have_no_influence(x, window, rotary, make_place, scatter):
    """Whatever stands in the padding, the real positions answer the same, as if the row ended there."""
    layer = scatter(Softmax(head_width=HEAD, window=window).build(make_place(rotary=rotary)))
    mask = padding([11, 11, 11])
    other = torch.where(mask[..., None], x, 100.0 * torch.ones_like(x))
    out = layer(x, Visible(mask))[:, :11]
    assert torch.equal(layer(other, Visible(mask))[:, :11], out)
    torch.testing.assert_close(layer(x[:, :11]), out, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(layer(other)[:, :11], out, atol=1e-2)  # without the mask they do


def test_a_long_padding_gives_no_nan(x, make_place, scatter):
    """A padded query whose window holds no real key still answers with a number, and so do all gradients."""
    layer = scatter(Softmax(head_width=HEAD, window=4).build(make_place()))
    out = layer(x.requires_grad_(), Visible(padding([16, 2, 1])))
    out.square().sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(t.grad).all() for t in [x, *layer.parameters()])


@pytest.mark.parametrize(("window", "half"), [(2, 1), (6, 3), (7, 3), (30, 15), (128, 64)])
def test_a_local_layer_sees_half_a_window_to_either_side(x, window, half, make_place, scatter):
    """Which inputs reach which outputs, found by gradients, is a band of that half width."""
    layer = scatter(Softmax(head_width=HEAD, window=window).build(make_place()))
    row = x[:1].requires_grad_()
    out = layer(row)[0].sum(-1)
    reaches = torch.stack([torch.autograd.grad(o, row, retain_graph=True)[0][0].abs().sum(-1) > 0 for o in out])
    assert torch.equal(reaches, allowed_by_loops(LENGTH, half, [[True] * LENGTH])[0])


def test_a_window_of_one_reaches_nothing_but_the_position_itself(x, make_place, scatter):
    """No other position is at distance 1/2 at most; only a window of 0 makes a layer global."""
    layer = scatter(Softmax(head_width=HEAD, window=1).build(make_place()))
    changed = x.clone()
    changed[:, 5] += 1.0
    same = (layer(changed) == layer(x)).all(-1).all(0)
    assert same.tolist() == [position != 5 for position in range(LENGTH)]


@pytest.mark.parametrize(("every", "is_global"), [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 2, 4, 6]), (3, [0, 3, 6])])
def test_every_nth_layer_is_global_from_the_first_on(every, is_global):
    """Layers 0, n, 2n, ... see everything; with no window all do."""
    local = Softmax(window=8, global_every=every)
    assert [layer for layer in range(7) if not local.is_local(layer)] == is_global
    assert not any(Softmax(window=0, global_every=every).is_local(layer) for layer in range(7))


@pytest.mark.parametrize(("layer", "theta"), [(0, 50000.0), (1, 7000.0), (2, 7000.0), (3, 50000.0)])
def test_local_and_global_layers_have_their_own_rotary_base(layer, theta, make_place):
    """The second wavelength tells: cos of theta^(-2/K) at position 1."""
    mixer = Softmax(head_width=HEAD, window=8, theta=50000.0, local_theta=7000.0).build(make_place(layer=layer))
    expected = torch.cos(torch.tensor(theta, dtype=torch.float64) ** (-2 / HEAD))
    assert mixer.cos[1, 1].item() == pytest.approx(expected.item(), abs=1e-7)


def test_rotary_attention_depends_on_relative_positions_only(x, make_place, scatter):
    """The same content five positions later, all else masked out, gives the same answers."""
    layer = scatter(Softmax(head_width=HEAD).build(make_place()))
    later = torch.zeros_like(x)
    later[:, 5:13] = x[:, :8]
    at = torch.arange(LENGTH)
    here = layer(x, Visible((at < 8).expand(ROWS, -1)))[:, :8]
    there = layer(later, Visible(((at >= 5) & (at < 13)).expand(ROWS, -1)))[:, 5:13]
    torch.testing.assert_close(there, here, atol=1e-5, rtol=1e-5)


def test_rotary_attention_knows_the_order_of_its_input(x, make_place, scatter):
    """Reversing the row reverses the answers without positions, and does not with rotary ones: it is no no-op."""
    places = {rotary: scatter(Softmax(head_width=HEAD).build(make_place(rotary=rotary))) for rotary in (False, True)}
    difference = {rotary: (m(x.flip(1)) - m(x).flip(1)).abs().max().item() for rotary, m in places.items()}
    assert difference[False] < 1e-5
    assert difference[True] > 0.1


def test_dropout_acts_in_training_only(x, make_place, scatter):
    """In evaluation the layer is the one without dropout; in training two passes differ."""
    layer = scatter(Softmax(head_width=HEAD).build(make_place(dropout=0.5)))
    without = scatter(Softmax(head_width=HEAD).build(make_place(dropout=0.0)))
    torch.testing.assert_close(layer(x), without(x))
    torch.manual_seed(0)
    layer.train()
    assert not torch.allclose(layer(x), layer(x))


def test_the_projections_say_what_optimizer_and_initialisation_ask(make_place):
    """Three matrices in the first, and the second writes into the residual stream."""
    layer = Softmax(head_width=HEAD).build(make_place(bias=False))
    assert (layer.qkv.fused, layer.qkv.is_output) == (3, False)
    assert (layer.out.fused, layer.out.is_output) == (1, True)
    assert [name for name, _ in layer.named_parameters()] == ["qkv.weight", "out.weight"]
    assert layer.state_dict().keys() == dict(layer.named_parameters()).keys()  # angles are made, not saved


def test_a_head_width_that_does_not_divide_the_width_is_refused(make_place):
    """At building, with the key to change."""
    with pytest.raises(UsageError, match="width 32 is not a multiple of head_width 24") as caught:
        Softmax(head_width=24).build(make_place())
    assert caught.value.where == "model.mixer.head_width"


def test_flops_of_a_local_layer_count_its_window_only(make_place):
    """4 matrices of D^2 and, twice, one product of width D with each of the positions in reach."""
    place, local = make_place(width=64, length=512), Softmax(window=128)
    matrices = 2 * 4 * 64**2
    assert local.flops_per_token(place) == matrices + 2 * 2 * 129 * 64
    assert Softmax().flops_per_token(place) == matrices + 2 * 2 * 512 * 64
    assert local.flops_per_token(make_place(width=64, length=64)) == matrices + 2 * 2 * 64 * 64
