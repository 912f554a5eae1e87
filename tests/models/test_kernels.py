"""The kernel that is chosen is the first that works and is right, and the reason says what happened to the others."""

from dataclasses import fields, replace

import pytest
import torch

from gpuday.core.errors import EnvironmentFault
from gpuday.models.attention import MOST_DOCUMENTS, attend
from gpuday.models.encoder import Encoder
from gpuday.models.kernels import CANDIDATES, TOLERANCE, Candidate, Layer, Needs, choose_attention, needs_of
from gpuday.models.mixers.affine import Affine
from gpuday.models.mixers.flash_quad import FlashQuad
from gpuday.models.mixers.hybrid import Hybrid
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain

CPU = torch.device("cpu")

OF_LAYERS = {field.name for field in fields(Layer)}


def asking(**asked):
    """Of one kind of layer."""
    layer = {name: value for name, value in asked.items() if name in OF_LAYERS}
    return Needs(layers=(Layer(**layer),), **{name: value for name, value in asked.items() if name not in OF_LAYERS})


def plain(q, k, v, case):
    return attend(q, k, v, case.seen(), reach=case.reach, **case.changes)


def missing(q, k, v, case):
    raise RuntimeError("no kernel image is available\nmore lines")


def too_large(q, k, v, case):
    return 1.01 * plain(q, k, v, case)


def wrong_backward(q, k, v, case):
    return plain(q, k.detach() + 1.01 * (k - k.detach()), v, case)


def not_a_number(q, k, v, case):
    return plain(q, k, v, case) / 0.0


def blind_to_documents(q, k, v, case):
    return plain(q, k, v, replace(case, segments=None))


def blind_to_windows(q, k, v, case):
    return plain(q, k, v, replace(case, reach=None))


def blind_to_order(q, k, v, case):
    return plain(q, k, v, replace(case, causal=False))


def blind_to_distance(q, k, v, case):
    return plain(q, k, v, replace(case, changes=case.changes | {"slopes": None}))


def without_cap(q, k, v, case):
    return plain(q, k, v, replace(case, changes=case.changes | {"cap": 0.0}))


def willing(kernel, attend):
    return Candidate(kernel, lambda device, dtype, needs: "", attend)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_the_first_that_is_right_is_taken(dtype):
    """Without trying the rest."""
    candidates = [willing("varlen", plain), willing("flex", missing)]
    choice = choose_attention(CPU, dtype, asking(head_width=16, reach=8, documents=5), candidates)
    assert choice.kernel == "varlen"
    assert choice.reason.startswith("varlen: within ")


def test_one_that_fails_is_passed_over_with_its_words():
    """The first line of what it says stands in the reason."""
    candidates = [willing("varlen", missing), willing("sdpa", plain)]
    choice = choose_attention(CPU, torch.float32, asking(head_width=16), candidates)
    assert choice.kernel == "sdpa"
    assert choice.reason.startswith("varlen: failed with no kernel image is available; sdpa: within ")


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("wrong", [too_large, wrong_backward, not_a_number, blind_to_documents, blind_to_windows])
def test_one_that_is_wrong_is_passed_over(wrong, dtype):
    """By one percent, in a gradient alone, by not being a number, or by seeing what it should not."""
    needs = asking(head_width=16, reach=8, documents=5)
    choice = choose_attention(CPU, dtype, needs, [willing("flex", wrong), willing("sdpa", plain)])
    assert choice.kernel == "sdpa"
    assert choice.reason.startswith("flex: off by ")


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [({"causal": True}, blind_to_order), ({"alibi": True}, blind_to_distance), ({"cap": 2.0}, without_cap)],
)
def test_what_is_asked_is_checked(asked, wrong):
    """One that looks ahead, forgets the distance or does not cap is wrong where that is asked, and right elsewhere."""
    candidates = [willing("flex", wrong), willing("sdpa", plain)]
    assert choose_attention(CPU, torch.float32, asking(head_width=16, **asked), candidates).kernel == "sdpa"
    assert choose_attention(CPU, torch.float32, asking(head_width=16), candidates).kernel == "flex"


@pytest.mark.parametrize("compiled", [False, True])
def test_a_fused_kernel_is_tried_as_it_will_run(compiled, monkeypatch):
    """Where the model is compiled, inside one graph of static shapes; what fails there is passed over."""
    asked = []

    def refuse(call, **options):
        asked.append(options)
        return missing

    monkeypatch.setattr(torch, "compile", refuse)
    needs = asking(head_width=16, reach=8, compiled=compiled)
    choice = choose_attention(CPU, torch.float32, needs, [willing("varlen", plain), willing("sdpa", plain)])
    assert choice.kernel == ("sdpa" if compiled else "varlen")
    assert asked == [{"dynamic": False, "fullgraph": True}] * compiled


def test_a_refusal_is_not_tried():
    """What is known to be unfit costs nothing and still gives its reason."""
    candidates = [Candidate("flex", lambda device, dtype, needs: "too old", missing), willing("sdpa", plain)]
    choice = choose_attention(CPU, torch.float32, asking(head_width=16), candidates)
    assert choice.reason.startswith("flex: too old; sdpa: ")


def test_nothing_right_is_an_error():
    """The plain kernel is checked like the others: training with wrong attention is worse than not training."""
    with pytest.raises(
        EnvironmentFault, match=r"no attention kernel is right on cpu in torch\.float32: sdpa: off by 1\.0%"
    ):
        choose_attention(CPU, torch.float32, asking(head_width=16), [willing("sdpa", too_large)])


@pytest.mark.parametrize("reach", [None, 8, 64])
@pytest.mark.parametrize("documents", [0, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cpu_takes_the_plain_kernel(reach, documents, dtype):
    """And says that the others are not for it; in every path that the CPU has, the check passes."""
    choice = choose_attention(CPU, dtype, asking(head_width=32, reach=reach, documents=documents))
    assert choice.kernel == "sdpa"
    assert choice.reason.startswith("varlen: for CUDA only; flex: for CUDA only; sdpa: within ")


WINDOWS = {"head_width": 64, "reach": 64, "compiled": True}
ISOLATED = {"head_width": 64, "compiled": True}


@pytest.mark.parametrize(
    ("needs", "dtype", "willing_ones"),
    [
        ({"head_width": 64, "compiled": True}, torch.bfloat16, ["sdpa"]),
        (WINDOWS, torch.bfloat16, ["varlen", "flex", "sdpa"]),
        (WINDOWS, torch.float32, ["flex", "sdpa"]),
        (WINDOWS | {"compiled": False}, torch.bfloat16, ["varlen", "sdpa"]),
        (WINDOWS | {"dropout": True}, torch.bfloat16, ["sdpa"]),
        (WINDOWS | {"documents": MOST_DOCUMENTS + 1}, torch.bfloat16, ["flex", "sdpa"]),
        (ISOLATED | {"documents": MOST_DOCUMENTS}, torch.bfloat16, ["varlen", "flex", "sdpa"]),
        (ISOLATED | {"documents": MOST_DOCUMENTS + 1}, torch.bfloat16, ["flex", "sdpa"]),
        (WINDOWS | {"causal": True}, torch.bfloat16, ["varlen", "flex", "sdpa"]),
        (WINDOWS | {"cap": 30.0}, torch.bfloat16, ["flex", "sdpa"]),
        (ISOLATED | {"alibi": True}, torch.bfloat16, ["flex", "sdpa"]),
    ],
)
def test_what_a_gpu_would_try(needs, dtype, willing_ones):
    """In this order; the plain kernel is always the last."""
    cuda = torch.device("cuda")
    assert willing_ones == [c.kernel for c in CANDIDATES if not c.refusal(cuda, dtype, asking(**needs))]


@pytest.mark.parametrize(("window", "reach"), [(0, None), (8, 4)])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_encoder_says_what_it_needs(window, reach, dropout, make_config):
    """Head width, the local layers' reach, and dropout while it trains."""
    config = make_config(mixer=Softmax(head_width=16, window=window, global_every=2), dropout=dropout)
    encoder = Encoder(config, vocab=64, length=16)
    layers = dict.fromkeys((Layer(head_width=16), Layer(head_width=16, reach=reach)))
    expected = Needs(layers=tuple(layers), documents=3, compiled=True, dropout=dropout > 0)
    assert expected == needs_of(encoder, documents=3, compiled=True)
    assert not needs_of(encoder.eval(), documents=3, compiled=True).dropout


def test_needs_are_those_of_the_softmax_layers(make_config):
    """Cap and ALiBi as they will act, under a Fourier layer too; mixers with weights of their own need nothing."""
    softmax = Softmax(head_width=16, cap=7.0, window=8, global_every=2)
    kinds = [Layer(head_width=16, cap=7.0), Layer(head_width=16, cap=7.0, reach=4)]
    run = {"documents": 3, "compiled": True}
    hybrid = Encoder(make_config(mixer=Hybrid(upper=softmax, last=2), shape=Plain(layers=3)), vocab=64, length=16)
    assert needs_of(hybrid, **run) == Needs(layers=tuple(kinds), **run)
    alibi = Encoder(make_config(mixer=softmax, position="alibi"), vocab=64, length=16)
    sloping = tuple(replace(kind, alibi=True) for kind in kinds)
    assert needs_of(alibi, **run, causal=True) == Needs(layers=sloping, **run, causal=True)
    for mixer in (FlashQuad(head_width=16), Affine(head_width=16)):
        other = Encoder(make_config(mixer=mixer, position="alibi", dropout=0.1), vocab=64, length=16)
        assert needs_of(other, **run) == Needs(**run)


def test_every_kind_of_layer_is_checked(make_config):
    """Two kinds of softmax in one model: a kernel that is wrong for the upper one alone is not taken."""
    mixer = Hybrid(
        lower=Softmax(head_width=16, window=8, global_every=2), upper=Softmax(head_width=32, cap=2.0), last=1
    )
    encoder = Encoder(make_config(mixer=mixer, shape=Plain(layers=3)), vocab=64, length=16)
    needs = needs_of(encoder, documents=0, compiled=False)
    assert needs.layers == (Layer(head_width=16), Layer(head_width=16, reach=4), Layer(head_width=32, cap=2.0))
    asked = []

    def wrong_above(q, k, v, case):
        asked.append((q.shape[-1], case.reach, case.changes["cap"]))
        return without_cap(q, k, v, case)

    candidates = [willing("flex", wrong_above), willing("sdpa", plain)]
    assert choose_attention(CPU, torch.float32, needs, candidates).kernel == "sdpa"
    assert asked == [(16, None, 0.0), (16, 4, 0.0), (32, None, 2.0)]


def test_the_check_does_not_touch_the_global_stream():
    """A run's random numbers are the same whichever kernel it has."""
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    choose_attention(CPU, torch.float32, asking(head_width=16))
    assert torch.equal(torch.rand(4), expected)
