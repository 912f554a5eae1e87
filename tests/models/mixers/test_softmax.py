"""Softmax attention against torch's, against loops written out, and what it must not see."""

import pytest
import torch
import torch.nn.functional as F
from transformers import ModernBertConfig
from transformers.models.modernbert import modeling_modernbert

from gpuday.core.errors import UsageError
from gpuday.models.encoder import EncoderConfig
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.position import rotate
from gpuday.models.shapes.funnel import Funnel
from gpuday.models.shapes.recurrent import Recurrent
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
    ours = scatter(Softmax(head_width=HEAD).build(make_place(position="none", qkv_bias=bias, bias=bias)))
    theirs = torch.nn.MultiheadAttention(WIDTH, WIDTH // HEAD, bias=bias, batch_first=True)
    names = {"in_proj_weight": "qkv.weight", "out_proj.weight": "out.weight"}
    names |= {"in_proj_bias": "qkv.bias", "out_proj.bias": "out.bias"} if bias else {}
    theirs.load_state_dict({there: ours.state_dict()[here] for there, here in names.items()})
    mask = padding([16, 9, 3])
    expected, _ = theirs(x, x, x, key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, Visible(mask)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [0, 6])
@pytest.mark.parametrize("position", ["rotary", "alibi", "none"])
def test_padded_keys_have_no_influence(x, window, position, make_place, scatter):
    """Whatever stands in the padding, the real positions answer the same, as if the row ended there."""
    layer = scatter(Softmax(head_width=HEAD, window=window).build(make_place(position=position)))
    mask = padding([11, 11, 11])
    other = torch.where(mask[..., None], x, 100.0 * torch.ones_like(x))
    out = layer(x, Visible(mask))[:, :11]
    assert torch.equal(layer(other, Visible(mask))[:, :11], out)
    torch.testing.assert_close(layer(x[:, :11], Visible()), out, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(layer(other, Visible())[:, :11], out, atol=1e-2)  # without the mask they do


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
    out = layer(row, Visible())[0].sum(-1)
    reaches = torch.stack([torch.autograd.grad(o, row, retain_graph=True)[0][0].abs().sum(-1) > 0 for o in out])
    assert torch.equal(reaches, allowed_by_loops(LENGTH, half, [[True] * LENGTH])[0])


def test_a_window_of_one_reaches_nothing_but_the_position_itself(x, make_place, scatter):
    """No other position is at distance 1/2 at most; only a window of 0 makes a layer global."""
    layer = scatter(Softmax(head_width=HEAD, window=1).build(make_place()))
    changed = x.clone()
    changed[:, 5] += 1.0
    same = (layer(changed, Visible()) == layer(x, Visible())).all(-1).all(0)
    assert same.tolist() == [position != 5 for position in range(LENGTH)]


@pytest.mark.parametrize(("every", "is_global"), [(7, [0]), (2, [0, 2, 4, 6]), (3, [0, 3, 6])])
def test_every_nth_layer_is_global_from_the_first_on(every, is_global):
    """Layers 0, n, 2n, ... see everything; with no window all do."""
    local = Softmax(window=8, global_every=every)
    assert [layer for layer in range(7) if not local.is_local(layer)] == is_global
    assert not any(Softmax(window=0, global_every=every).is_local(layer) for layer in range(7))


def test_a_window_that_no_layer_has_is_refused():
    """Where every layer is global."""
    with pytest.raises(UsageError, match="none has the window of 8") as caught:
        Softmax(window=8, global_every=1)
    assert caught.value.where == "model.mixer.global_every"


@pytest.mark.parametrize(("layer", "theta"), [(0, 50000.0), (1, 7000.0), (2, 7000.0), (3, 50000.0)])
def test_local_and_global_layers_have_their_own_rotary_base(layer, theta, make_place):
    """The second wavelength tells: cos of theta^(-2/K) at position 1."""
    mixer = Softmax(head_width=HEAD, window=8, theta=50000.0, local_theta=7000.0).build(make_place(layer=layer))
    expected = torch.cos(torch.tensor(theta, dtype=torch.float64) ** (-2 / HEAD))
    assert mixer.positions.cos[1, 1].item() == pytest.approx(expected.item(), abs=1e-7)


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
    difference = {}
    for position in ("none", "rotary"):
        layer = scatter(Softmax(head_width=HEAD).build(make_place(position=position)))
        turned = layer(x.flip(1), Visible()) - layer(x, Visible()).flip(1)
        difference[position] = turned.abs().max().item()
    assert difference["none"] < 1e-5
    assert difference["rotary"] > 0.1


@pytest.mark.parametrize("layer", [0, 1], ids=["global", "local"])
def test_rotary_attention_is_modernberts(layer, x, make_place, scatter):
    """Weights copied into the Transformers library's layer, windows, wavelengths and padding included."""
    config = ModernBertConfig(
        hidden_size=WIDTH,
        num_attention_heads=WIDTH // HEAD,
        num_hidden_layers=2,
        layer_types=["full_attention", "sliding_attention"],
        local_attention=6,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 50000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 7000.0},
        },
    )
    config._attn_implementation = "eager"
    mixer = Softmax(head_width=HEAD, window=6, global_every=2, theta=50000.0, local_theta=7000.0)
    ours = scatter(mixer.build(make_place(layer=layer, qkv_bias=False, bias=False)))
    theirs = modeling_modernbert.ModernBertAttention(config, layer_idx=layer).eval()
    theirs.load_state_dict({"Wqkv.weight": ours.qkv.weight, "Wo.weight": ours.out.weight})
    rotary = modeling_modernbert.ModernBertRotaryEmbedding(config)
    angles = rotary(x, torch.arange(LENGTH).expand(ROWS, -1), config.layer_types[layer])
    mask = padding([16, 9, 3])
    allowed = allowed_by_loops(LENGTH, 3 * layer, mask)[:, None]  # what is to be seen is handed to theirs
    expected, _ = theirs(x, angles, torch.zeros(allowed.shape).masked_fill(~allowed, -1e9))
    torch.testing.assert_close(ours(x, Visible(mask))[mask], expected[mask], atol=1e-5, rtol=1e-4)


def by_head(layer, x):
    """Queries, keys and values [ROWS, heads, LENGTH, HEAD] by the layer's matrix, taken apart by hand."""
    q, k, v = (F.linear(x, w, b) for w, b in zip(layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3), strict=True))
    return [torch.stack(t.split(HEAD, dim=-1), dim=1) for t in (q, k, v)]


def answer(layer, q, k, v):
    """Torch's attention of unplaced heads, joined and projected."""
    joined = torch.cat(F.scaled_dot_product_attention(q, k, v).unbind(1), dim=-1)
    return F.linear(joined, layer.out.weight, layer.out.bias)


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_queries_and_keys_are_normed_by_hand(norm, x, make_place, scatter):
    """Mean square 1 along each head, centred or not; so scores depend on directions alone."""
    layer = scatter(Softmax(head_width=HEAD, qk_norm=norm).build(make_place(position="none")))
    q, k, v = by_head(layer, x)
    if norm == "layer":
        q, k = q - q.mean(-1, keepdim=True), k - k.mean(-1, keepdim=True)
    q, k = (t / t.square().mean(-1, keepdim=True).sqrt() for t in (q, k))
    torch.testing.assert_close(layer(x, Visible()), answer(layer, q, k, v), atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        layer.qkv.weight[: 2 * WIDTH] *= 3.0
        layer.qkv.bias[: 2 * WIDTH] *= 3.0
    torch.testing.assert_close(layer(x, Visible()), answer(layer, q, k, v), atol=1e-3, rtol=1e-3)


def test_queries_and_keys_are_normed_before_they_are_turned(x, make_place, scatter):
    """A turn keeps the root mean square, and not the mean: centring comes before it."""
    layer = scatter(Softmax(head_width=HEAD, qk_norm="layer").build(make_place()))
    q, k, v = by_head(layer, x)
    q, k = (F.layer_norm(t, (HEAD,)) for t in (q, k))
    cos, sin = layer.positions.cos, layer.positions.sin
    turned = answer(layer, rotate(q, cos, sin), rotate(k, cos, sin), v)
    torch.testing.assert_close(layer(x, Visible()), turned, atol=1e-4, rtol=1e-4)


def test_later_layers_mix_the_first_ones_values_into_theirs(x, make_place, scatter):
    """Three layers by a loop over their matrices, with learned factors of each; the first has none."""
    config = Softmax(head_width=HEAD, value_residual=True)
    layers = [scatter(config.build(make_place(layer=n, position="none")), seed=n) for n in range(3)]
    seen, hidden, expected, first = Visible(), x, x, None
    for n, layer in enumerate(layers):
        hidden = hidden + layer(hidden, seen)
        q, k, v = by_head(layer, expected)
        first = v if n == 0 else first
        if n:
            v = layer.of_values[0] * first + layer.of_values[1] * v
        expected = expected + answer(layer, q, k, v)
    assert layers[0].of_values is None
    torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-4)


def test_value_factors_begin_at_one_half(make_place):
    """As in the paper's learned kind."""
    made = Softmax(head_width=HEAD, value_residual=True).build(make_place(layer=2))
    assert made.of_values.tolist() == [0.5, 0.5]


def test_value_factors_are_not_rounded_to_the_dtype_of_the_activations(make_place):
    """0.5009 is 0.5 in bf16: a sum of many small steps would never leave it. By a layer that hands on its values."""
    layer = Softmax(head_width=16, value_residual=True).build(make_place(qkv_bias=False, bias=False))
    seen, x = Visible(), torch.ones(1, 1, 32).bfloat16()
    seen.kept["values"] = torch.full((1, 2, 1, 16), 255.0).bfloat16()
    with torch.no_grad():
        layer.qkv.weight.zero_()
        layer.out.weight.copy_(torch.eye(32))
        layer.of_values.copy_(torch.tensor([1.003, 0.5]))
    assert torch.equal(layer(x, seen), torch.tensor(1.003 * 255.0).bfloat16().expand(1, 1, 32))


@pytest.mark.parametrize("shape", [Recurrent(layers=2, repeats=2), Funnel()])
def test_a_value_residual_is_refused_where_blocks_repeat_or_rows_shorten(shape):
    """When the config is made, with the axis to change."""
    with pytest.raises(UsageError, match="passed once, at full length") as caught:
        EncoderConfig(mixer=Softmax(value_residual=True), shape=shape)
    assert caught.value.where == "model.mixer.value_residual"


def test_a_gate_scales_each_heads_answer(x, make_place, scatter):
    """By the sigmoid of one number a head, from the layer's input; one matrix more, counted."""
    place = make_place(position="none")
    layer = scatter(Softmax(head_width=HEAD, gate=True).build(place))
    q, k, v = by_head(layer, x)
    mixed = F.scaled_dot_product_attention(q, k, v)
    heads = [mixed[:, n] * torch.sigmoid(x @ layer.gate.weight[n] + layer.gate.bias[n])[..., None] for n in range(2)]
    expected = F.linear(torch.cat(heads, dim=-1), layer.out.weight, layer.out.bias)
    torch.testing.assert_close(layer(x, Visible()), expected, atol=1e-5, rtol=1e-4)
    gate = Softmax(head_width=HEAD, gate=True).flops_per_token(place) - Softmax(head_width=HEAD).flops_per_token(place)
    assert gate == 2 * WIDTH * 2


@pytest.mark.parametrize("window", [0, 6])
def test_cap_and_slopes_reach_the_scores(x, window, make_place, scatter):
    """A tiny cap makes a mean over what is in sight of the values; ALiBi's slopes are the heads'."""
    capped = scatter(Softmax(head_width=HEAD, window=window, cap=1e-6).build(make_place(position="none")))
    _, _, v = by_head(capped, x)
    near = allowed_by_loops(LENGTH, window // 2, [[True] * LENGTH])[0].float()
    mean = torch.cat(((near / near.sum(-1, keepdim=True)) @ v).unbind(1), dim=-1)
    expected = F.linear(mean, capped.out.weight, capped.out.bias)
    torch.testing.assert_close(capped(x, Visible()), expected, atol=1e-4, rtol=1e-4)
    placed = Softmax(head_width=HEAD).build(make_place(position="alibi")).positions
    assert placed.slopes.tolist() == [2.0**-4, 2.0**-8]


def test_input_and_output_have_biases_of_their_own(make_place):
    """`qkv_bias` is the input's three, `mixer_bias` the output's and the gate's: not a key and value more."""
    for qkv, other in ((True, False), (False, True)):
        layer = Softmax(head_width=HEAD, gate=True).build(make_place(qkv_bias=qkv, bias=other))
        assert [m.bias is not None for m in (layer.qkv, layer.out, layer.gate)] == [qkv, other, other]
        assert tuple(layer.qkv.weight.shape) == (3 * WIDTH, WIDTH)


def test_dropout_acts_in_training_only(x, make_place, scatter):
    """In evaluation the layer is the one without dropout; in training two passes differ."""
    layer = scatter(Softmax(head_width=HEAD).build(make_place(dropout=0.5)))
    without = scatter(Softmax(head_width=HEAD).build(make_place(dropout=0.0)))
    torch.testing.assert_close(layer(x, Visible()), without(x, Visible()))
    torch.manual_seed(0)
    layer.train()
    assert not torch.allclose(layer(x, Visible()), layer(x, Visible()))


def test_the_projections_say_what_optimizer_and_initialisation_ask(make_place):
    """Three matrices in the first, and the second writes into the residual stream."""
    layer = Softmax(head_width=HEAD).build(make_place(qkv_bias=False, bias=False))
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
