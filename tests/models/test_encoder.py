"""The encoder against torch's own layers, and each axis of its config on its own."""

import pytest
import torch
from torch import nn

from gpuday.core.errors import UsageError
from gpuday.models import attention
from gpuday.models.attention import EXPLICIT_UP_TO
from gpuday.models.encoder import Encoder
from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.mixers.affine import Affine
from gpuday.models.mixers.fourier import Fourier
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.norm import Norm
from gpuday.models.position import sinusoids
from gpuday.models.shapes.funnel import Funnel
from gpuday.models.shapes.plain import Plain
from gpuday.models.shapes.recurrent import Recurrent

VOCAB, LENGTH, WIDTH = 100, 16, 32
BIASES = {"qkv_bias": True, "mixer_bias": True, "feedforward_bias": True}
IDS = torch.randint(0, VOCAB, (3, LENGTH), generator=torch.Generator().manual_seed(0))
MASK = torch.arange(LENGTH) < torch.tensor([[16], [9], [3]])


def torch_layer(block, *, pre):
    """torch's own encoder layer with a block's weights."""
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 64, 0.0, "gelu", layer_norm_eps=1e-5, batch_first=True, norm_first=pre)
    names = {
        "self_attn.in_proj_weight": "mixer.qkv.weight",
        "self_attn.in_proj_bias": "mixer.qkv.bias",
        "self_attn.out_proj.weight": "mixer.out.weight",
        "self_attn.out_proj.bias": "mixer.out.bias",
        "linear1.weight": "feedforward.up.weight",
        "linear1.bias": "feedforward.up.bias",
        "linear2.weight": "feedforward.down.weight",
        "linear2.bias": "feedforward.down.bias",
        "norm1.weight": "mixer_norm.weight",
        "norm1.bias": "mixer_norm.bias",
        "norm2.weight": "feedforward_norm.weight",
        "norm2.bias": "feedforward_norm.bias",
    }
    weights = block.state_dict()
    assert set(names.values()) == set(weights)
    layer.load_state_dict({theirs: weights[ours] for theirs, ours in names.items()})
    return layer  # left in training mode: its dropout is zero, and its fused inference path is another computation


def layernorm(x, norm):
    return nn.functional.layer_norm(x, (WIDTH,), norm.weight, norm.bias, 1e-5)


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole rows", "padded rows"])
def test_an_encoder_equals_torchs_layers(placement, mask, make_config, scatter):
    """Embedding, scaled sinusoids, norm, two of torch's encoder layers, norm; both placements of the norms."""
    config = make_config(
        placement=placement, position="scaled_sinusoidal", feedforward=Gelu(ratio=2.0), norm_bias=True, **BIASES
    )
    ours = scatter(Encoder(config, vocab=VOCAB, length=LENGTH))
    x = ours.embedding.weight[IDS] + ours.positions.scale * sinusoids(LENGTH, WIDTH)
    x = layernorm(x, ours.embedding_norm)
    for block in ours.stack.blocks:
        x = torch_layer(block, pre=placement == "pre")(x, src_key_padding_mask=None if mask is None else ~mask)
    expected = layernorm(x, ours.final_norm)
    kept = slice(None) if mask is None else mask
    torch.testing.assert_close(ours(IDS, mask)[kept], expected[kept], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "scaled_sinusoidal", "rotary"])
def test_every_kind_of_position_reaches_the_output(position, make_config, scatter):
    """A row read backwards gives other hidden states: no kind is a no-op."""
    encoder = scatter(Encoder(make_config(position=position), vocab=VOCAB, length=LENGTH))
    out, backwards = encoder(IDS), encoder(IDS.flip(1)).flip(1)
    assert (out - backwards).abs().max() > 0.1


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("window", [0, 4])
def test_padded_tokens_have_no_influence(placement, window, make_config, scatter):
    """Real positions answer the same whatever ids stand in the padding, to the bit."""
    config = make_config(placement=placement, mixer=Softmax(head_width=16, window=window, global_every=2))
    encoder = scatter(Encoder(config, vocab=VOCAB, length=LENGTH))
    other = torch.where(MASK, IDS, (IDS + 1) % VOCAB)
    assert torch.equal(encoder(IDS, MASK)[MASK], encoder(other, MASK)[MASK])


def test_a_shorter_row_is_a_padded_one(make_config, scatter):
    """Rows may be shorter than the length that the model was built for."""
    encoder = scatter(Encoder(make_config(), vocab=VOCAB, length=LENGTH))
    torch.testing.assert_close(encoder(IDS[1:2, :9]), encoder(IDS[1:2], MASK[1:2])[:, :9], atol=1e-5, rtol=1e-5)


DOCUMENTS = [(0, 5), (5, 6), (6, 16)]  # first and last token of each
SEGMENTS = torch.tensor(3 * [[0] * 5 + [1] + [2] * 10], dtype=torch.int32)


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "scaled_sinusoidal", "rotary"])
@pytest.mark.parametrize("window", [0, 4])
def test_an_isolated_document_is_the_document_alone(position, window, make_config, scatter):
    """Forward and the gradient of every weight, in fp32: packing changes nothing, whatever gives the positions."""
    config = make_config(position=position, mixer=Softmax(head_width=16, window=window, global_every=2))
    encoder = scatter(Encoder(config, vocab=VOCAB, length=LENGTH))
    packed = encoder(IDS, segments=SEGMENTS)
    alone = torch.cat([encoder(IDS[:, start:stop]) for start, stop in DOCUMENTS], dim=1)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)
    together = torch.autograd.grad(packed.square().sum(), list(encoder.parameters()))
    apart = torch.autograd.grad(alone.square().sum(), list(encoder.parameters()))
    for ours, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)
    assert not torch.allclose(encoder(IDS), alone, atol=1e-2)


def test_padding_inside_an_isolated_document_has_no_influence(make_config, scatter):
    """Mask and segments together: a document whose end is padded answers like the shorter document."""
    encoder = scatter(Encoder(make_config(), vocab=VOCAB, length=LENGTH))
    mask = (torch.arange(LENGTH) < 12).expand(3, -1)
    out = encoder(IDS, mask, SEGMENTS)
    torch.testing.assert_close(out[:, 6:12], encoder(IDS[:, 6:12]), atol=1e-5, rtol=1e-5)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("position", ["learned", "rotary"])
@pytest.mark.parametrize("window", [0, 4])
def test_segments_are_one_graph_for_every_batch(position, window, make_config, scatter):
    """No break in the graph, and other documents compile nothing anew."""
    config = make_config(position=position, mixer=Softmax(head_width=16, window=window, global_every=2))
    encoder = scatter(Encoder(config, vocab=VOCAB, length=LENGTH))
    graphs = []

    def count(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(encoder, backend=count, dynamic=False, fullgraph=True)
    for segments in (SEGMENTS, SEGMENTS.flip(1).max() - SEGMENTS.flip(1), torch.zeros_like(SEGMENTS)):
        torch.testing.assert_close(compiled(IDS, segments=segments), encoder(IDS, segments=segments))
    assert len(graphs) == 1


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's tracer in its own code
def test_flex_attention_is_part_of_that_graph(make_config, scatter):
    """Its block masks are made inside, from segments that change with every batch."""
    config = make_config(mixer=Softmax(head_width=16, window=4, global_every=2))
    encoder = scatter(Encoder(config, vocab=VOCAB, length=LENGTH))
    kernels = []

    def look(graph, _inputs):
        kernels.append([str(node.target) for node in graph.graph.nodes if "flex_attention" in str(node.target)])
        return graph.forward

    expected = [encoder(IDS, segments=segments) for segments in (SEGMENTS, 0 * SEGMENTS)]
    encoder.kernel = "flex"
    torch.compiler.reset()
    compiled = torch.compile(encoder, backend=look, dynamic=False, fullgraph=True)
    with torch.no_grad():  # on a CPU it has no backward
        for segments, answer in zip((SEGMENTS, 0 * SEGMENTS), expected, strict=True):
            torch.testing.assert_close(compiled(IDS, segments=segments), answer, atol=1e-5, rtol=1e-5)
    assert [len(found) for found in kernels] == [2]


def test_the_first_norm_can_be_left_out(make_config):
    """In block 0, before the mixer, and there alone."""
    norms = {
        (placement, first): [
            isinstance(block.mixer_norm, Norm)
            for block in Encoder(make_config(placement=placement, first_norm=first), vocab=8, length=8).stack.blocks
        ]
        for placement in ("pre", "sandwich")
        for first in (True, False)
    }
    expected = {("pre", True): [True, True], ("pre", False): [False, True]}
    assert norms == {**expected, ("sandwich", True): [True, True], ("sandwich", False): [False, True]}


@pytest.mark.parametrize(
    "changes",
    [
        {"placement": "post"},
        {"placement": "deepnorm"},
        {"shape": Recurrent(layers=1, repeats=2)},
        {"shape": Recurrent(layers=3, repeats=2)},
    ],
)
def test_a_first_norm_that_is_no_first_norm_cannot_be_left_out(changes, make_config):
    """A norm after the sum is none before the mixer, and a block that comes again needs it; passed once it does not."""
    with pytest.raises(UsageError, match="first_norm=true") as caught:
        make_config(first_norm=False, **changes)
    assert caught.value.where == "model.first_norm"
    make_config(first_norm=False, shape=Recurrent(layers=2, repeats=1))


@pytest.mark.parametrize(("mixer", "what"), [(Fourier(), "mixer"), (Softmax(head_width=16), "shape")])
def test_what_cannot_look_back_says_which_part_it_is(mixer, what, make_config):
    """And what to choose instead."""
    config = make_config(mixer=mixer, shape=Funnel() if what == "shape" else Plain(layers=2), position="learned")
    with pytest.raises(UsageError, match=f"its {what}") as caught:
        Encoder(config, vocab=8, length=8)(torch.zeros(1, 8, dtype=torch.int64), causal=True)
    assert caught.value.where == f"model.{what}"
    assert f"choose another {what}" in caught.value.fix


@pytest.mark.parametrize("position", ["rotary", "alibi"])
@pytest.mark.parametrize("mixer", [Softmax(head_width=16), Softmax(head_width=16, cap=5.0), Affine(head_width=16)])
@pytest.mark.parametrize("dropout", [0.0, 0.1], ids=["", "with dropout"])
@pytest.mark.parametrize("most", [EXPLICIT_UP_TO, 0], ids=["explicit", "sdpa"])
def test_a_row_of_nothing_but_padding_is_finite(mixer, position, dropout, most, make_config, scatter, monkeypatch):
    """It answers something, disturbs no other row and no gradient."""
    monkeypatch.setattr(attention, "EXPLICIT_UP_TO", most)
    encoder = scatter(Encoder(make_config(mixer=mixer, position=position, dropout=dropout), vocab=VOCAB, length=LENGTH))
    encoder.train(dropout > 0)
    out = encoder(IDS, MASK & torch.tensor([[True], [False], [True]]))
    out[::2].sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("axis", ["embedding_norm", "final_norm"])
def test_a_norm_that_is_switched_off_is_gone(axis, make_config):
    """With its parameters."""
    with_it, without = (Encoder(make_config(**{axis: on}), vocab=8, length=8) for on in (True, False))
    assert set(with_it.state_dict()) - set(without.state_dict()) == {f"{axis}.weight"}


def test_all_norms_are_of_the_configs_kind(make_config):
    """Kind, eps and bias reach every norm."""
    config = make_config(norm="rmsnorm", norm_eps=1e-3, norm_bias=True)
    norms = [m for m in Encoder(config, vocab=8, length=8).modules() if isinstance(m, Norm)]
    assert len(norms) == 6
    assert {(m.kind, m.eps, m.bias is None) for m in norms} == {("rmsnorm", 1e-3, False)}


def test_without_biases_every_vector_is_a_norms_scale(make_config):
    """All kinds of biases are off by default, everywhere."""
    vectors = [n for n, p in Encoder(make_config(), vocab=8, length=8).named_parameters() if p.dim() < 2]
    assert vectors
    assert all(name.endswith("norm.weight") for name in vectors)


def test_the_layer_reaches_the_mixer(make_config):
    """Layer numbers decide which layers are local."""
    config = make_config(mixer=Softmax(head_width=16, window=4, global_every=3), shape=Plain(layers=5))
    blocks = Encoder(config, vocab=8, length=8).stack.blocks
    assert [block.mixer.weights.reach for block in blocks] == [None, 2, 2, None, 2]


def test_dropout_acts_in_training_only(make_config, scatter):
    """On in `train()`, off in `eval()`, where the encoder equals one without dropout."""
    with_it, without = (scatter(Encoder(make_config(dropout=p), vocab=VOCAB, length=LENGTH)) for p in (0.3, 0.0))
    torch.testing.assert_close(with_it(IDS), without(IDS))
    torch.manual_seed(0)
    with_it.train()
    assert not torch.allclose(with_it(IDS), with_it(IDS))


def test_hidden_states_have_the_compute_dtype_and_gradients_are_fp32(make_config, scatter):
    """`dtype` is chosen once; parameters stay fp32, each gets an fp32 gradient close to the one of fp32 compute."""
    encoder = scatter(Encoder(make_config(), vocab=VOCAB, length=LENGTH))
    gradients = {}
    for dtype in (torch.float32, torch.bfloat16):
        encoder.dtype = dtype
        encoder.zero_grad()
        out = encoder(IDS)
        assert out.dtype == dtype
        out.float()[..., 0].sum().backward()
        assert {p.grad.dtype for p in encoder.parameters()} == {torch.float32}
        gradients[dtype] = {n: p.grad.clone() for n, p in encoder.named_parameters()}
    for name, exact in gradients[torch.float32].items():
        assert (gradients[torch.bfloat16][name] - exact).norm() < 0.05 * exact.norm(), name


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"mixer": Fourier()}, "model.position"),
        ({"mixer": Fourier(), "position": "alibi"}, "model.position"),
        ({"mixer": Softmax(value_residual=True), "shape": Recurrent()}, "model.mixer.value_residual"),
        ({"mixer": Softmax(value_residual=True), "shape": Funnel()}, "model.mixer.value_residual"),
        (
            {"mixer": Softmax(head_width=16, value_residual=True), "shape": Plain(layers=1)},
            "model.mixer.value_residual",
        ),
        ({"mixer": Softmax(head_width=24)}, "model.mixer.head_width"),
    ],
)
def test_what_a_mixer_cannot_do_is_refused(changes, where, make_config):
    """Positions that act on scores where there are none, and first values where there is no one first layer."""
    with pytest.raises(UsageError) as caught:
        make_config(**changes)
    assert caught.value.where == where
    assert caught.value.fix


@pytest.mark.parametrize("width", [0, -2, 33])
def test_a_width_that_is_not_positive_and_even_is_refused(width, make_config):
    """With the key to change."""
    with pytest.raises(UsageError, match="not a positive even number") as caught:
        make_config(width=width)
    assert caught.value.where == "model.width"


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_dropout_outside_0_to_1_is_refused(dropout, make_config):
    """1 would leave nothing."""
    with pytest.raises(UsageError, match=r"not in \[0, 1\)"):
        make_config(dropout=dropout)
