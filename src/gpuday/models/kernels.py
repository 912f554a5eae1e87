"""Chooses the attention kernel of a run: the fastest that this machine has and that gives the right answer on it.

Each candidate in turn is tried forward and backward on a small random case against explicit fp32 products. What it
cannot do, or does wrongly, becomes the reason why the next one is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from gpuday.core.errors import EnvironmentFault
from gpuday.models.attention import MOST_DOCUMENTS, alibi_slopes, attend, explicit, linear_biases
from gpuday.models.mixers._heads import MultiHead, SoftmaxWeights
from gpuday.models.visible import Kernel, Visible

# Relative error in the Frobenius norm, of the answer and of each gradient. Rounding to bf16 alone makes up to 0.5% of a
# gradient, to fp16 0.06%, and fp32 products on a GPU may be TF32, which is as coarse; off by 1% is beyond each.
TOLERANCE = {torch.float32: 0.002, torch.float16: 0.002, torch.bfloat16: 0.008}
ROWS, HEADS, LENGTH = 2, 2, 512


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one layer asks of attention beside q, k and v."""

    segments: Tensor | None = None
    """Numbers of the documents that are kept apart, [B, L]."""
    reach: int | None = None
    """Positions to either side that are seen; None: all."""
    causal: bool = False
    """Whether what stands after a token is hidden from it."""
    changes: dict[str, Any] = field(default_factory=dict)
    """What `attend` does to scores: a cap, slopes."""

    def seen(self, kernel: Kernel = "sdpa") -> Visible:
        return Visible(segments=self.segments, kernel=kernel, causal=self.causal)


Attend = Callable[[Tensor, Tensor, Tensor, Case], Tensor]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A kind of layer of softmax attention."""

    head_width: int = 64
    """Width of a head."""
    reach: int | None = None
    """Positions to either side that are seen; None: all."""
    cap: float = 0.0
    """What scores are capped at; 0: at nothing."""
    alibi: bool = False
    """Whether scores lose with distance."""

    @property
    def is_plain(self) -> bool:
        """Whether scores are taken as they are."""
        return self.cap == 0.0 and not self.alibi


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a run asks of attention beside device and dtype."""

    layers: tuple[Layer, ...] = (Layer(),)
    """Every kind of layer once."""
    documents: int = 0
    """The most documents in any row, where they are kept apart; 0 where they are not."""
    compiled: bool = False
    """Whether the model is compiled."""
    dropout: bool = False
    """Whether attention drops weights while it trains."""
    causal: bool = False
    """Whether some passes look back only."""


def needs_of(encoder: nn.Module, *, documents: int, compiled: bool, causal: bool = False) -> Needs:
    """What the encoder's layers of softmax attention need, as it will train; others are computed in one way only."""
    pairs = [(m.positions, m.weights) for m in encoder.modules() if isinstance(m, MultiHead)]
    found = [(at, weights) for at, weights in pairs if isinstance(weights, SoftmaxWeights)]
    kinds = dict.fromkeys(
        Layer(head_width=w.head_width, reach=w.reach, cap=w.cap, alibi=at.slopes is not None) for at, w in found
    )
    return Needs(
        layers=tuple(kinds) or Needs.layers,
        documents=documents,
        compiled=compiled,
        dropout=any(weights.dropout > 0.0 and weights.training for _, weights in found),
        causal=causal,
    )


@dataclass(frozen=True)
class Choice:
    """A kernel, and in words why it and not another."""

    kernel: Kernel
    reason: str


@dataclass(frozen=True)
class Candidate:
    """A kernel, what speaks against even trying it (empty: nothing), and the call (q, k, v, case)."""

    kernel: Kernel
    refusal: Callable[[torch.device, torch.dtype, Needs], str]
    attend: Attend


def choose_attention(
    device: torch.device, dtype: torch.dtype, needs: Needs, candidates: Sequence[Candidate] | None = None
) -> Choice:
    """The first candidate that can be used and is right; the others' reasons are in the answer's.

    Raises EnvironmentFault when none is right, the plain one included.
    """
    passed_over: list[str] = []
    for candidate in CANDIDATES if candidates is None else candidates:
        fault = candidate.refusal(device, dtype, needs)
        if not fault:
            error, fault = _tried(candidate, device, dtype, needs)
            if not fault:
                checked = f"{candidate.kernel}: within {error:.1e} of fp32"
                return Choice(candidate.kernel, "; ".join([*passed_over, checked]))
        passed_over.append(f"{candidate.kernel}: {fault}")
    raise EnvironmentFault(
        f"no attention kernel is right on {device} in {dtype}: {'; '.join(passed_over)}",
        fix="try another version of torch, or set train.dtype",
    )


def _tried(candidate: Candidate, device: torch.device, dtype: torch.dtype, needs: Needs) -> tuple[float, str]:
    """The largest relative error in all layers that the run will have, and what is wrong, or an empty string."""
    if needs.compiled and candidate.kernel != "sdpa":  # as it will run: part of one graph
        attend = torch.compile(candidate.attend, dynamic=False, fullgraph=True)
        candidate = replace(candidate, attend=attend)
    try:
        asked = product(needs.layers, {needs.causal, False})
        errors = [_errors(candidate, device, dtype, needs.documents, layer, causal) for layer, causal in asked]
    except Exception as error:  # noqa: BLE001 - whatever a kernel lacks here, the next one is tried and this is told
        return 0.0, f"failed with {(str(error).strip().splitlines() or [type(error).__name__])[0][:200]}"
    worst = torch.cat(errors).max().item()  # a NaN if there is one
    if worst <= TOLERANCE[dtype]:  # not so for a NaN
        return worst, ""
    return worst, f"off by {worst:.1%} of fp32's answer, more than {TOLERANCE[dtype]:.1%}"


def _errors(
    candidate: Candidate, device: torch.device, dtype: torch.dtype, documents: int, layer: Layer, causal: bool
) -> Tensor:
    """Relative errors [4] of the answer and of the gradients of q, k and v."""
    draw = torch.Generator().manual_seed(0)  # the global stream is the run's
    shape = (ROWS, HEADS, LENGTH, layer.head_width)
    q, k, v, upstream = (torch.randn(shape, generator=draw).to(device, dtype) for _ in range(4))
    segments = slopes = None
    if documents:
        starts = torch.rand(ROWS, LENGTH, generator=draw).argsort(dim=1) < min(documents, LENGTH) - 1
        segments = starts.cumsum(dim=1).to(device, torch.int32)
    if layer.alibi:
        slopes = alibi_slopes(HEADS)
    changes = {"cap": layer.cap, "slopes": None if slopes is None else slopes.to(device)}
    case = Case(segments=segments, reach=layer.reach, causal=causal, changes=changes)
    given = (q.requires_grad_(), k.requires_grad_(), v.requires_grad_())
    found = candidate.attend(q, k, v, case)
    found_all = [found, *torch.autograd.grad(found, given, upstream)]
    exact = [t.detach().cpu().float().requires_grad_() for t in given]  # a CPU's fp32 is fp32
    seen = replace(case, segments=None if segments is None else segments.cpu()).seen()
    allowed = seen.pairs(layer.reach, LENGTH, torch.device("cpu"))
    biases = None if slopes is None else linear_biases(slopes, seen, LENGTH)
    expected = explicit(exact[0], exact[1], exact[2], allowed, biases=biases, cap=layer.cap)
    expected_all = [expected, *torch.autograd.grad(expected, exact, upstream.cpu().float())]
    pairs = zip(found_all, expected_all, strict=True)
    return torch.stack([(ours.cpu().float() - theirs).norm() / theirs.norm() for ours, theirs in pairs])


def _with(kernel: Kernel) -> Attend:
    def call(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
        return attend(q, k, v, case.seen(kernel), reach=case.reach, **case.changes)

    return call


def _no_gain(device: torch.device, needs: Needs) -> str:
    if device.type != "cuda":
        return "for CUDA only"
    if not needs.documents and all(layer.reach is None and layer.is_plain for layer in needs.layers):
        return "gains nothing without windows or isolation"
    return "does not drop weights" if needs.dropout else ""


def _varlen_refusal(device: torch.device, dtype: torch.dtype, needs: Needs) -> str:
    if reason := _no_gain(device, needs):
        return reason
    if dtype not in (torch.bfloat16, torch.float16):
        return "for bf16 and fp16 only"
    if not all(layer.is_plain for layer in needs.layers):
        return "neither caps scores nor takes biases"
    if needs.documents > MOST_DOCUMENTS:
        return f"a row holds up to {needs.documents} documents, more than {MOST_DOCUMENTS}"
    return ""


def _flex_refusal(device: torch.device, _dtype: torch.dtype, needs: Needs) -> str:
    return _no_gain(device, needs) or ("" if needs.compiled else "slow where nothing is compiled")


CANDIDATES = (
    Candidate("varlen", _varlen_refusal, _with("varlen")),
    Candidate("flex", _flex_refusal, _with("flex")),
    Candidate("sdpa", lambda _device, _dtype, _needs: "", _with("sdpa")),
)
