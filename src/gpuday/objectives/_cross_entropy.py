"""The loss of a linear decoder whose logits never exist whole: a piece of positions at a time, gradients at once.

Cross-entropy, or another `Loss` of the same pass. The gradient of every piece is taken while its logits are still in the cache, so that they are neither kept nor computed
twice (as in Hsu et al., "Liger Kernel", arXiv 2410.10989). Shapes: P positions, D width, V vocabulary.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpuday.objectives._loss import PLAIN, Loss

# Bytes of a piece's logits in the compute dtype; uncompiled, a few fp32 copies of a piece exist beside them. On a CPU a
# piece stays in the last cache; a GPU wants products large enough to fill it.
PIECE_BYTES = {"cpu": 16 << 20, "cuda": 256 << 20}

Piece = Callable[
    [Tensor, Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor | None, Loss, float], tuple[Tensor, Tensor]
]


def piece(
    features: Tensor,
    table: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    weights: Tensor,
    to_table: Tensor,
    to_bias: Tensor | None,
    loss: Loss = PLAIN,
    cap: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """(loss, its gradient to features [P, D]) of one piece; those to table and bias are added to `to_table`, `to_bias`.

    features [P, D], table [V, D] and bias [V] or None in the compute dtype, labels [P] int64, weights [P] fp32; both
    sums fp32. The softmax is taken in fp32, of logits that are capped first where `cap` is not 0.
    """
    logits = F.linear(features, table, bias).float()
    if cap:
        logits = cap * torch.tanh(logits / cap)
    # The one-hot labels by comparison: a scatter would be a second pass over the piece.
    hits = torch.arange(table.shape[0], device=labels.device) == labels[:, None]
    losses, exact = (_squares if loss.kind == "mse" else _entropies)(logits, hits, labels, weights[:, None], loss)
    if cap:
        exact = exact * (1.0 - (logits / cap).square())
    gradient = exact.to(features.dtype)
    to_table += gradient.t() @ features
    if to_bias is not None:
        to_bias += exact.sum(0)
    return (losses * weights).sum(), gradient @ table


def _entropies(logits: Tensor, hits: Tensor, labels: Tensor, weights: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """(losses [P], weighted gradient to the logits [P, V]) of cross-entropy with its axes, and of focal loss.

    The gradient is w f (p - (1 - e) one-hot - e / V) + 2 w z_loss log(Z) p. f is 1 for cross-entropy; for focal loss it
    is (1 - q)^gamma - gamma q (1 - q)^(gamma - 1) log q.
    """
    top = logits.amax(-1, keepdim=True)
    numerators = (logits - top).exp()
    total = numerators.sum(-1, keepdim=True)
    log_total = top + total.log()
    losses = log_total - logits.gather(-1, labels[:, None])
    scale = weights
    if loss.kind == "focal":
        rest = (-torch.expm1(-losses)).clamp_min(torch.finfo(torch.float32).tiny)  # 1 - q, above 0 for the power below
        scale = weights * (rest**loss.gamma + loss.gamma * (-losses).exp() * rest ** (loss.gamma - 1.0) * losses)
        losses = rest**loss.gamma * losses
    spread = scale
    if loss.z_loss:
        losses = losses + loss.z_loss * log_total.square()
        spread = scale + 2.0 * loss.z_loss * weights * log_total
    if not loss.smoothing:
        return losses.squeeze(-1), numerators * (spread / total) - scale * hits
    share, size = loss.smoothing, logits.shape[-1]
    label = logits.gather(-1, labels[:, None])
    losses = losses + share * (label - logits.mean(-1, keepdim=True))
    targets = (1.0 - share) * hits + share / size
    return losses.squeeze(-1), numerators * (spread / total) - scale * targets


def _squares(logits: Tensor, hits: Tensor, labels: Tensor, weights: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """(losses [P], weighted gradient to the logits [P, V]) of the squared error on logits."""
    size, label = logits.shape[-1], logits.gather(-1, labels[:, None])
    miss = loss.label_weight * (label - loss.label_logit)
    losses = (logits.square().sum(-1, keepdim=True) - label.square() + miss * (label - loss.label_logit)) / size
    return losses.squeeze(-1), (2.0 / size) * weights * torch.where(hits, miss, logits)


def rows_of_a_piece(positions: int, vocabulary: int, device: str, itemsize: int) -> int:
    """Positions in a piece: as even as they come, so that padding the last one to their shape costs next to nothing."""
    most = max(1, PIECE_BYTES.get(device, PIECE_BYTES["cuda"]) // (vocabulary * itemsize))
    return math.ceil(positions / math.ceil(positions / most))


def cross_entropy(
    features: Tensor,
    table: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    weights: Tensor,
    piece: Piece = piece,
    *,
    loss: Loss = PLAIN,
    cap: float = 0.0,
) -> Tensor:
    """sum_p weights[p] * -log softmax(features[p] table^T + bias)[labels[p]], as a scalar in fp32; or another loss there.

    features [P, D] in the compute dtype, table [V, D] and bias [V] fp32, labels [P] int64, weights [P] fp32. The
    gradients of table and bias are summed in fp32. `piece` may be the compiled one. Differentiable once.
    """
    total: Tensor = _CrossEntropy.apply(features, table, bias, labels, weights, piece, loss, cap)
    return total


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        table: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        weights: Tensor,
        piece: Piece,
        kind: Loss,
        cap: float,
    ) -> Tensor:
        dtype, positions = features.dtype, len(labels)
        weight, shift = table.to(dtype), None if bias is None else bias.to(dtype)
        rows = rows_of_a_piece(positions, len(table), features.device.type, features.itemsize)
        # One shape for all pieces: each would be compiled, and the compiler keeps only so many.
        extra = -positions % rows
        features = F.pad(features, (0, 0, 0, extra))
        labels, weights = F.pad(labels, (0, extra)), F.pad(weights, (0, extra))
        to_features = torch.empty_like(features)
        to_table, to_bias = torch.zeros_like(table), None if bias is None else torch.zeros_like(bias)
        loss = torch.zeros((), device=features.device)
        for start in range(0, positions, rows):
            part = slice(start, start + rows)
            here, to_features[part] = piece(
                features[part], weight, shift, labels[part], weights[part], to_table, to_bias, kind, cap
            )
            loss += here
        ctx.save_for_backward(to_features[:positions], to_table, to_bias)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if g is None else (g * outer).to(g.dtype) for g in ctx.saved_tensors]
        return *scaled, None, None, None, None, None
