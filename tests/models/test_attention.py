"""Attention by every kernel that runs here: against torch's SDPA, against each other, and against documents alone."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from transformers.models.bloom import modeling_bloom
from transformers.models.mpt import modeling_mpt

from gpuday.models import attention
from gpuday.models.attention import (
    EXPLICIT_UP_TO,
    MOST_DOCUMENTS,
    alibi_slopes,
    attend,
    document_bounds,
    explicit,
    flex,
    in_chunks,
)
from gpuday.models.visible import Visible

ROWS, HEADS, LENGTH, HEAD = 2, 2, 32, 16
DOCUMENTS = [[(0, 9), (9, 10), (10, 32)], [(0, 20), (20, 26), (26, 32)]]  # first and last token of each, by row
SEGMENTS = torch.tensor(
    [[n for n, (start, stop) in enumerate(row) for _ in range(start, stop)] for row in DOCUMENTS], dtype=torch.int32
)


def make(rows=ROWS, heads=HEADS, length=LENGTH, width=HEAD):
    generator = torch.Generator().manual_seed(1)
    return [(2.0 * torch.randn(rows, heads, length, width, generator=generator)).requires_grad_() for _ in range(3)]


def with_gradients(call, qkv):
    """The answer of `call`, and the gradients of its squares by q, k and v."""
    out = call(*qkv)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), qkv)]


def assert_equal(ours, theirs, tolerance=1e-4):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def one_document_at_a_time(q, k, v, reach, *, causal=False):
    """Each document of each row by torch's SDPA on its own, with a band for the reach, put side by side again."""
    out = []
    for row, documents in enumerate(DOCUMENTS):
        pieces = []
        for start, stop in documents:
            at = torch.arange(stop - start)
            behind = at[:, None] - at
            near = (behind.abs() <= (LENGTH if reach is None else reach)) & (behind >= (0 if causal else -LENGTH))
            alone = [t[row : row + 1, :, start:stop] for t in (q, k, v)]
            pieces.append(F.scaled_dot_product_attention(*alone, attn_mask=near))
        out.append(torch.cat(pieces, dim=2))
    return torch.cat(out)


def band(reach, mask=None, length=LENGTH):
    at = torch.arange(length)
    near = ((at[:, None] - at).abs() <= reach)[None, None]
    return near if mask is None else (near & mask[:, None, None, :]) | torch.eye(length).bool()


PADDING = torch.arange(LENGTH) < torch.tensor([[32], [19]])
MASKS = {
    "nothing": None,
    "padding": PADDING[:, None, None, :],
    "window": band(2),
    "window and padding": band(2, PADDING),
    "a mask for every head": torch.rand(ROWS, HEADS, LENGTH, LENGTH, generator=torch.Generator().manual_seed(2)) < 0.7,
}


@pytest.mark.parametrize("allowed", MASKS.values(), ids=MASKS.keys())
def test_the_explicit_products_equal_sdpa(allowed):
    """In fp32, forward and gradients, within 1e-4."""
    qkv = make()
    ours = with_gradients(lambda *t: explicit(*t, allowed), qkv)
    assert_equal(ours, with_gradients(lambda *t: F.scaled_dot_product_attention(*t, attn_mask=allowed), qkv))


def test_attention_over_two_keys_by_hand():
    """Scores 0 and 2/sqrt(4) = 1: weights 1/(1+e) and e/(1+e)."""
    q, k = torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]]]])
    v = torch.tensor([[[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]]])
    e = torch.e
    assert attend(q, k, v, Visible()).flatten().tolist() == pytest.approx([1 / (1 + e), e / (1 + e), 0.0, 0.0])


def test_the_softmax_of_bf16_is_taken_in_fp32():
    """The answer has the input's dtype and lies within bf16's rounding of the fp32 answer."""
    low = [t.bfloat16() for t in make(3, 2, 16, 16)]
    out = explicit(*low, None)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), explicit(*[t.float() for t in low], None), atol=0.06, rtol=0.02)


@pytest.mark.parametrize("reach", [None, 1, 4, 31, 40])
@pytest.mark.parametrize("causal", [False, True], ids=["both sides", "causal"])
@pytest.mark.parametrize("most", [EXPLICIT_UP_TO, 0], ids=["explicit", "sdpa or chunks"])
def test_an_isolated_document_is_the_document_alone(reach, causal, most, monkeypatch):
    """In fp32, forward and gradients, whatever stands beside it in the row."""
    monkeypatch.setattr(attention, "EXPLICIT_UP_TO", most)
    qkv, seen = make(), Visible(segments=SEGMENTS, causal=causal)
    ours = with_gradients(lambda *t: attend(*t, seen, reach=reach), qkv)
    assert_equal(ours, with_gradients(lambda *t: one_document_at_a_time(*t, reach, causal=causal), qkv))


@pytest.mark.parametrize("reach", [None, 1, 4, 40])
@pytest.mark.parametrize("mask", [None, PADDING], ids=["whole", "padded"])
@pytest.mark.parametrize("most", [EXPLICIT_UP_TO, 0], ids=["explicit", "sdpa or chunks"])
@pytest.mark.parametrize("dropout", [0.0, 1e-9], ids=["", "with dropout"])
def test_looking_back_only_hides_what_comes_after(reach, mask, most, dropout, monkeypatch):
    """The gradient of an answer by values: none by a later one, some by every earlier one in reach."""
    monkeypatch.setattr(attention, "EXPLICIT_UP_TO", most)
    q, k, v = make()
    out = attend(q, k, v, Visible(mask, causal=True), reach=reach, dropout=dropout)
    for at in (0, 7, 18):
        (gradient,) = torch.autograd.grad(out[:, :, at].sum(), v, retain_graph=True)
        first = max(0, at - reach) if reach else 0
        shown = torch.zeros(LENGTH, dtype=torch.bool)
        shown[first : at + 1] = True
        assert (gradient.abs().sum((1, 3)) > 0).tolist() == [shown.tolist()] * ROWS


def test_a_whole_row_that_looks_back_only_needs_no_mask(monkeypatch):
    """SDPA's own flag is used, which has the faster kernels; anything beside it goes by the mask."""
    monkeypatch.setattr(attention, "EXPLICIT_UP_TO", 0)
    kept, called = F.scaled_dot_product_attention, []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *t, **o: (called.append(o), kept(*t, **o))[1])
    q, k, v = (t.detach() for t in make())
    for seen in (Visible(causal=True), Visible(PADDING, causal=True), Visible(segments=SEGMENTS, causal=True)):
        attend(q, k, v, seen)
    assert [options.get("is_causal", False) for options in called] == [True, False, False]
    assert [options.get("attn_mask") is None for options in called] == [True, False, False]


def by_formula(q, k, v, allowed, cap, slopes):
    """In double precision: tanh, then the distance by loops, then softmax."""
    q, k, v = (t.double() for t in (q, k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if cap:
        scores = cap * torch.tanh(scores / cap)
    if slopes is not None:
        distance = torch.tensor([[abs(i - j) for j in range(LENGTH)] for i in range(LENGTH)])
        scores = scores - slopes.double().view(-1, 1, 1) * distance
    return (torch.softmax(scores.masked_fill(~allowed, float("-inf")), dim=-1) @ v).float()


@pytest.mark.parametrize("reach", [None, 2])
def test_sdpa_gets_one_mask_of_biases_for_all_layers(reach, monkeypatch):
    """Of four dimensions, in the activations' dtype; made once for each kind of layer."""
    masks, real = [], F.scaled_dot_product_attention

    def spy(*args, **options):
        masks.append(options["attn_mask"])
        return real(*args, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    monkeypatch.setattr(attention, "EXPLICIT_UP_TO", 0)
    q, slopes, seen = (
        torch.randn(2, 4, 16, 8).bfloat16(),
        alibi_slopes(4),
        Visible(torch.arange(16) < torch.tensor([[16], [9]])),
    )
    for _ in range(3):
        attend(q, q, q, seen, reach=reach, dropout=0.1, slopes=slopes)
    assert masks[0].shape == (2, 4, 16, 16) and masks[0].dtype == torch.bfloat16
    assert masks[0] is masks[1] is masks[2]
    attend(q, q, q, seen, reach=5, dropout=0.1, slopes=slopes)
    assert masks[3] is not masks[0]


ALTERED = {"cap": (2.0, None), "slopes": (0.0, alibi_slopes(HEADS)), "cap and slopes": (2.0, alibi_slopes(HEADS))}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("cap", "slopes"), ALTERED.values(), ids=ALTERED.keys())
@pytest.mark.parametrize("mask", [None, PADDING], ids=["whole", "padded"])
@pytest.mark.parametrize("reach", [None, 4])
@pytest.mark.parametrize("causal", [False, True], ids=["both sides", "causal"])
def test_caps_and_slopes_are_their_formulas_in_every_kernel(cap, slopes, mask, reach, causal, monkeypatch):
    """Explicit, by SDPA, in chunks, by flex, and where dropout acts; varlen can neither, so that others are taken."""
    q, k, v = (t.detach() for t in make())
    allowed = Visible(mask, causal=causal).pairs(reach, LENGTH, torch.device("cpu"))
    allowed = torch.ones(LENGTH, LENGTH, dtype=torch.bool) if allowed is None else allowed
    expected = by_formula(q, k, v, allowed, cap, slopes)
    for most, dropout in itertools.product((EXPLICIT_UP_TO, 0), (0.0, 1e-9)):
        monkeypatch.setattr(attention, "EXPLICIT_UP_TO", most)
        seen = Visible(mask, kernel="varlen", causal=causal)
        found = attend(q, k, v, seen, reach=reach, cap=cap, slopes=slopes, dropout=dropout)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    if mask is None:
        found = flex(q, k, v, Visible(causal=causal), reach, cap=cap, slopes=slopes)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 16, 20])
def test_slopes_are_those_of_bloom_and_mpt(heads):
    """For powers of two and between them, as two models of the Transformers library were trained with."""
    ones = torch.ones(1, 3, dtype=torch.long)
    torch.testing.assert_close(
        alibi_slopes(heads), modeling_bloom.build_alibi_tensor(ones, heads, torch.float32)[:, 0, 1]
    )
    mpt = modeling_mpt.build_mpt_alibi_tensor(heads, 2).view(heads, 2)  # biases at positions -1 and 0
    torch.testing.assert_close(alibi_slopes(heads), -mpt[:, 0])


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["packed", "isolated"])
@pytest.mark.parametrize("mask", [None, PADDING], ids=["whole", "padded"])
@pytest.mark.parametrize("reach", [1, 2, 4, 8])
def test_chunks_of_neighbours_equal_the_whole_square(reach, mask, segments):
    """Local attention in chunks and with a mask over all pairs are one function: forward and gradients, in fp32."""
    qkv, seen = make(), Visible(mask, segments)
    ours = with_gradients(lambda *t: in_chunks(*t, seen, reach), qkv)
    allowed = seen.pairs(reach, LENGTH, torch.device("cpu"))
    assert_equal(ours, with_gradients(lambda *t: F.scaled_dot_product_attention(*t, attn_mask=allowed), qkv))


@pytest.mark.parametrize(
    ("length", "reach", "expected"),
    [
        (EXPLICIT_UP_TO, None, []),
        (EXPLICIT_UP_TO, 64, []),
        (EXPLICIT_UP_TO + 1, None, ["scaled_dot_product_attention"]),
        (512, 64, ["in_chunks"]),
        (511, 64, ["scaled_dot_product_attention"]),
        (512, 256, ["scaled_dot_product_attention"]),
        (512, 0, ["scaled_dot_product_attention"]),
        (512, 511, ["scaled_dot_product_attention"]),
    ],
)
def test_the_row_length_decides_on_speed_only(length, reach, expected, monkeypatch):
    """On either side of each switch another kernel is called, and all give the same answer."""
    called = []

    def watch(module, name):
        kept = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **options: (called.append(name), kept(*args, **options))[1])

    watch(attention, "in_chunks")
    watch(F, "scaled_dot_product_attention")
    q, k, v = (t.detach() for t in make(1, 1, length, 8))
    found = attend(q, k, v, Visible(), reach=reach)
    assert expected == called
    scores = q @ k.mT / 8**0.5
    if reach is not None:
        scores = scores.masked_fill(~band(reach, length=length), float("-inf"))
    torch.testing.assert_close(found, torch.softmax(scores, dim=-1) @ v, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["packed", "isolated"])
@pytest.mark.parametrize("reach", [None, 4])
@pytest.mark.parametrize("causal", [False, True], ids=["both sides", "causal"])
def test_flex_sees_the_same_pairs(reach, segments, causal):
    """Its block mask is the square of pairs; forward, which is all that it does on a CPU."""
    q, k, v = (t.detach() for t in make())
    seen = Visible(segments=segments, causal=causal)
    torch.testing.assert_close(flex(q, k, v, seen, reach), attend(q, k, v, seen, reach=reach), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's tracer in its own code
def test_flex_compiles_with_its_gradients(monkeypatch):
    """One graph forward and one backward, block masks included, for batches with other documents; as SDPA in fp32.

    The device check alone keeps its backward from CPUs: before code is generated it is plain mathematics.
    """
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)
    torch.compiler.reset()
    graph = torch.compile(attend, backend="aot_eager", dynamic=False, fullgraph=True)
    changes = {"cap": 3.0, "slopes": alibi_slopes(HEADS)}
    for segments in (SEGMENTS, SEGMENTS.flip(0).contiguous()):
        seen = Visible(segments=segments, kernel="flex", causal=True)
        qkv = make()
        ours = with_gradients(lambda *t, seen=seen: graph(*t, seen, reach=4, **changes), qkv)
        plain = Visible(segments=segments, causal=True)
        assert_equal(ours, with_gradients(lambda *t, plain=plain: attend(*t, plain, reach=4, **changes), qkv))


def test_flex_is_for_compiled_code_only(monkeypatch):
    """Eager it would hold every score, so the plain path answers instead."""
    monkeypatch.setattr(attention, "flex", None)
    q, k, v = (t.detach() for t in make())
    found = attend(q, k, v, Visible(segments=SEGMENTS, kernel="flex"))
    assert torch.equal(found, attend(q, k, v, Visible(segments=SEGMENTS)))


def test_padding_and_dropout_go_the_plain_way_whatever_the_kernel(monkeypatch):
    """The fused kernels know neither; fine-tuning, which has both, does not depend on them."""
    monkeypatch.setattr(attention, "varlen", None)
    q, k, v = (t.detach() for t in make())
    for seen in (Visible(PADDING, SEGMENTS, "varlen"), Visible(kernel="varlen")):
        plain = Visible(seen.mask, seen.segments)
        assert torch.equal(attend(q, k, v, seen), attend(q, k, v, plain))
    assert attend(q, k, v, Visible(segments=SEGMENTS, kernel="varlen"), dropout=0.5).shape == q.shape


def test_documents_are_bounded_by_hand():
    """Starts in the flattened tokens, then the end, as often as the fixed shape holds."""
    found = document_bounds(SEGMENTS, ROWS, LENGTH, torch.device("cpu"))
    assert found.dtype == torch.int32
    assert found.tolist() == [0, 9, 10, 32, 52, 58] + [64] * (ROWS * MOST_DOCUMENTS - 5)
    assert document_bounds(None, 3, 32, torch.device("cpu")).tolist() == [0, 32, 64, 96]


@pytest.mark.parametrize("length", [4, MOST_DOCUMENTS])
def test_rows_of_single_tokens_are_bounded_too(length):
    """As many documents as fit, in rows shorter than the room for them and just as long."""
    segments = torch.arange(length, dtype=torch.int32).expand(2, -1)
    found = document_bounds(segments, 2, length, torch.device("cpu")).tolist()
    assert found == [min(i, 2 * length) for i in range(2 * MOST_DOCUMENTS + 1)]


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["packed", "isolated"])
@pytest.mark.parametrize("reach", [None, 4])
@pytest.mark.parametrize("causal", [False, True], ids=["both sides", "causal"])
def test_varlen_is_called_with_what_its_signature_asks(reach, segments, causal, monkeypatch):
    """Flattened tokens [B L, H, K], bounds, the longest document and the window: a loop over them gives the answer."""

    def by_loops(q, k, v, starts, starts_of_keys, longest, longest_of_keys, *, window_size):
        assert starts is starts_of_keys
        assert longest == longest_of_keys == LENGTH
        out = torch.full_like(q, float("nan"))
        for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            at = torch.arange(stop - start)
            far = at[None, :] - at[:, None]
            left, right = window_size
            near = ((left < 0) | (far >= -left)) & ((right < 0) | (far <= right))
            alone = [t[start:stop].transpose(0, 1) for t in (q, k, v)]
            out[start:stop] = F.scaled_dot_product_attention(*alone, attn_mask=near).transpose(0, 1)
        return out

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_loops)
    q, k, v = (t.detach() for t in make())
    found = attend(q, k, v, Visible(segments=segments, kernel="varlen", causal=causal), reach=reach)
    plain = attend(q, k, v, Visible(segments=segments, causal=causal), reach=reach)
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["packed", "isolated"])
def test_varlen_takes_what_it_is_called_with(segments):
    """Torch's own function, on tensors without values: names, shapes and types of the arguments, and of the gradients."""
    q, k, v = (torch.empty(ROWS, HEADS, LENGTH, HEAD, device="meta", requires_grad=True) for _ in range(3))
    seen = Visible(segments=None if segments is None else segments.to("meta"), kernel="varlen")
    out = attend(q, k, v, seen, reach=4)
    gradients = torch.autograd.grad(out, (q, k, v), torch.empty_like(out))
    assert {out.shape, *(g.shape for g in gradients)} == {q.shape}
