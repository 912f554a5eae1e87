"""The kernel that is chosen is the first that works and is right, and the reason says what happened to the others."""

import pytest
import torch

from gpuday.core.errors import EnvironmentFault
from gpuday.models.attention import MOST_DOCUMENTS, attend
from gpuday.models.encoder import Encoder
from gpuday.models.kernels import CANDIDATES, TOLERANCE, Candidate, Needs, choose_attention, needs_of
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.visible import Visible

CPU = torch.device("cpu")


def plain(q, k, v, segments, reach):
    return attend(q, k, v, Visible(segments=segments), reach=reach)


def missing(q, k, v, segments, reach):
    raise RuntimeError("no kernel image is available\nmore lines")


def too_large(q, k, v, segments, reach):
    return 1.01 * plain(q, k, v, segments, reach)


def wrong_backward(q, k, v, segments, reach):
    return plain(q, k.detach() + 1.01 * (k - k.detach()), v, segments, reach)


def not_a_number(q, k, v, segments, reach):
    return plain(q, k, v, segments, reach) / 0.0


def blind_to_documents(q, k, v, segments, reach):
    return attend(q, k, v, Visible(), reach=reach)


def blind_to_windows(q, k, v, segments, reach):
    return plain(q, k, v, segments, None)


def willing(kernel, attend):
    return Candidate(kernel, lambda device, dtype, needs: "", attend)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_the_first_that_is_right_is_taken(dtype):
    """Without trying the rest."""
    candidates = [willing("varlen", plain), willing("flex", missing)]
    choice = choose_attention(CPU, dtype, Needs(head_width=16, reach=8, documents=5), candidates)
    assert choice.kernel == "varlen"
    assert choice.reason.startswith("varlen: within ")


def test_one_that_fails_is_passed_over_with_its_words():
    """The first line of what it says stands in the reason."""
    candidates = [willing("varlen", missing), willing("sdpa", plain)]
    choice = choose_attention(CPU, torch.float32, Needs(head_width=16), candidates)
    assert choice.kernel == "sdpa"
    assert choice.reason.startswith("varlen: failed with no kernel image is available; sdpa: within ")


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("wrong", [too_large, wrong_backward, not_a_number, blind_to_documents, blind_to_windows])
def test_one_that_is_wrong_is_passed_over(wrong, dtype):
    """By one percent, in a gradient alone, by not being a number, or by seeing what it should not."""
    needs = Needs(head_width=16, reach=8, documents=5)
    choice = choose_attention(CPU, dtype, needs, [willing("flex", wrong), willing("sdpa", plain)])
    assert choice.kernel == "sdpa"
    assert choice.reason.startswith("flex: off by ")


@pytest.mark.parametrize("compiled", [False, True])
def test_a_fused_kernel_is_tried_as_it_will_run(compiled, monkeypatch):
    """Where the model is compiled, inside one graph of static shapes; what fails there is passed over."""
    asked = []

    def refuse(call, **options):
        asked.append(options)
        return missing

    monkeypatch.setattr(torch, "compile", refuse)
    needs = Needs(head_width=16, reach=8, compiled=compiled)
    choice = choose_attention(CPU, torch.float32, needs, [willing("varlen", plain), willing("sdpa", plain)])
    assert choice.kernel == ("sdpa" if compiled else "varlen")
    assert asked == [{"dynamic": False, "fullgraph": True}] * compiled


def test_a_refusal_is_not_tried():
    """What is known to be unfit costs nothing and still gives its reason."""
    candidates = [Candidate("flex", lambda device, dtype, needs: "too old", missing), willing("sdpa", plain)]
    choice = choose_attention(CPU, torch.float32, Needs(head_width=16), candidates)
    assert choice.reason.startswith("flex: too old; sdpa: ")


def test_nothing_right_is_an_error():
    """The plain kernel is checked like the others: training with wrong attention is worse than not training."""
    with pytest.raises(
        EnvironmentFault, match=r"no attention kernel is right on cpu in torch\.float32: sdpa: off by 1\.0%"
    ):
        choose_attention(CPU, torch.float32, Needs(head_width=16), [willing("sdpa", too_large)])


@pytest.mark.parametrize("reach", [None, 8, 64])
@pytest.mark.parametrize("documents", [0, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cpu_takes_the_plain_kernel(reach, documents, dtype):
    """And says that the others are not for it; in every path that the CPU has, the check passes."""
    choice = choose_attention(CPU, dtype, Needs(head_width=32, reach=reach, documents=documents))
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
    ],
)
def test_what_a_gpu_would_try(needs, dtype, willing_ones):
    """In this order; the plain kernel is always the last."""
    cuda = torch.device("cuda")
    assert willing_ones == [c.kernel for c in CANDIDATES if not c.refusal(cuda, dtype, Needs(**needs))]


@pytest.mark.parametrize(("window", "reach"), [(0, None), (8, 4)])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_encoder_says_what_it_needs(window, reach, dropout, make_config):
    """Head width, the local layers' reach, and dropout while it trains."""
    config = make_config(mixer=Softmax(head_width=16, window=window, global_every=2), dropout=dropout)
    encoder = Encoder(config, vocab=64, length=16)
    expected = Needs(head_width=16, reach=reach, documents=3, compiled=True, dropout=dropout > 0)
    assert expected == needs_of(encoder, documents=3, compiled=True)
    assert not needs_of(encoder.eval(), documents=3, compiled=True).dropout


def test_the_check_does_not_touch_the_global_stream():
    """A run's random numbers are the same whichever kernel it has."""
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    choose_attention(CPU, torch.float32, Needs(head_width=16))
    assert torch.equal(torch.rand(4), expected)
