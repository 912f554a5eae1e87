"""The fused kernels on a CUDA device: the same answer as explicit fp32 products, alone and inside a compiled encoder."""

import pytest
import torch

from gpuday.models.attention import MOST_DOCUMENTS
from gpuday.models.encoder import Encoder, EncoderConfig
from gpuday.models.kernels import CANDIDATES, Layer, Needs, choose_attention
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

KERNELS = {candidate.kernel: candidate for candidate in CANDIDATES}
ROWS, LENGTH, VOCAB = 4, 512, 128


@pytest.fixture
def segments() -> torch.Tensor:
    """Rows of one to MOST_DOCUMENTS documents; int32 [ROWS, LENGTH]."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.rand(ROWS, LENGTH, generator=generator).argsort(1) < torch.tensor(
        [[0], [1], [4], [MOST_DOCUMENTS - 1]]
    )
    starts[:, 0] = False
    return starts.cumsum(1).int().cuda()


@pytest.mark.parametrize("kernel", ["varlen", "flex", "sdpa"])
@pytest.mark.parametrize("documents", [0, 1, MOST_DOCUMENTS])
@pytest.mark.parametrize("reach", [None, 64])
def test_every_kernel_passes_its_own_check(kernel: str, documents: int, reach: int | None) -> None:
    """Forward and backward in bf16, in every case that it does not refuse."""
    needs = Needs(layers=(Layer(reach=reach),), documents=documents, compiled=True)
    candidate = KERNELS[kernel]
    cuda = torch.device("cuda")
    if candidate.refusal(cuda, torch.bfloat16, needs):
        assert kernel != "sdpa" and reach is None and not documents
        return
    assert choose_attention(cuda, torch.bfloat16, needs, [candidate]).kernel == kernel


@pytest.mark.parametrize(
    ("kernel", "asked"),
    [
        ("varlen", {"causal": True}),
        ("flex", {"causal": True}),
        ("flex", {"cap": 30.0, "alibi": True}),
        ("flex", {"cap": 30.0, "causal": True}),
        ("sdpa", {"cap": 30.0, "alibi": True, "causal": True}),
    ],
)
def test_what_changes_scores_or_hides_the_future_is_right(kernel: str, asked: dict[str, float]) -> None:
    """With windows and documents in bf16, forward and backward."""
    layer = Layer(reach=64, **{name: value for name, value in asked.items() if name != "causal"})
    needs = Needs(layers=(layer,), documents=4, compiled=True, causal="causal" in asked)
    assert choose_attention(torch.device("cuda"), torch.bfloat16, needs, [KERNELS[kernel]]).kernel == kernel


@pytest.mark.parametrize("documents", [MOST_DOCUMENTS, MOST_DOCUMENTS + 1])
def test_a_gpu_does_not_fall_back_to_dense_masks(documents: int) -> None:
    """With windows and isolation a fused kernel is chosen."""
    needs = Needs(layers=(Layer(reach=64),), documents=documents, compiled=True)
    choice = choose_attention(torch.device("cuda"), torch.bfloat16, needs)
    assert choice.kernel == ("varlen" if documents <= MOST_DOCUMENTS else "flex"), choice.reason


@pytest.mark.parametrize("kernel", ["varlen", "flex"])
@pytest.mark.parametrize("isolate", [False, True])
def test_a_compiled_encoder_gives_the_gradients_of_the_plain_one(
    kernel: str, isolate: bool, segments: torch.Tensor
) -> None:
    """One graph for batches with other documents; hidden states and gradients within bf16's rounding."""
    config = EncoderConfig(width=128, shape=Plain(layers=3), mixer=Softmax(head_width=64, window=128, global_every=3))
    encoder = Encoder(config, vocab=VOCAB, length=LENGTH).cuda()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in encoder.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[1] ** -0.5)
    encoder.dtype = torch.bfloat16
    ids = torch.randint(0, VOCAB, (ROWS, LENGTH), generator=generator).cuda()
    upstream = torch.randn(ROWS, LENGTH, 128, generator=generator).cuda()
    torch.compiler.reset()
    compiled = torch.compile(encoder, dynamic=False, fullgraph=True)
    for shown in (segments, segments.roll(1, 0)) if isolate else (None,):
        found = {}
        for name, forward in (("sdpa", encoder), (kernel, compiled)):
            encoder.kernel = name
            encoder.zero_grad()
            hidden = forward(ids, None, shown).float()
            (hidden * upstream).sum().backward()
            found[name] = [hidden.detach(), *(p.grad.clone() for p in encoder.parameters())]
        for ours, theirs in zip(found[kernel], found["sdpa"], strict=True):
            assert (ours - theirs).norm() <= 0.03 * theirs.norm() + 1e-6
