"""Cross-entropy of a linear decoder whose logits never exist whole: a piece of positions at a time, gradients at once.

The gradient of every piece is taken while its logits are still in the cache, so that they are neither kept nor computed
twice (as in Hsu et al., "Liger Kernel", arXiv 2410.10989). Shapes: P positions, D width, V vocabulary.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Bytes of a piece's logits in the compute dtype; uncompiled, a few fp32 copies of a piece exist beside them. On a CPU a
# piece stays in the last cache; a GPU wants products large enough to fill it.
PIECE_BYTES = {"cpu": 16 << 20, "cuda": 256 << 20}

Piece = Callable[[Tensor, Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def piece(
    features: Tensor,
    table: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    weights: Tensor,
    to_table: Tensor,
    to_bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """(loss, its gradient to features [P, D]) of one piece; those to table and bias are added to `to_table`, `to_bias`.

    features [P, D], table [V, D] and bias [V] or None in the compute dtype, labels [P] int64, weights [P] fp32; both
    sums fp32. The softmax is taken in fp32.
    """
    logits = F.linear(features, table, bias).float()
    top = logits.amax(-1, keepdim=True)
    numerators = (logits - top).exp()
    total = numerators.sum(-1, keepdim=True)
    losses = (top + total.log() - logits.gather(-1, labels[:, None])).squeeze(-1)
    # The one-hot labels by comparison: a scatter would be a second pass over the piece.
    hits = torch.arange(table.shape[0], device=labels.device) == labels[:, None]
    exact = numerators * (weights[:, None] / total) - weights[:, None] * hits
    gradient = exact.to(features.dtype)
    to_table += gradient.t() @ features
    if to_bias is not None:
        to_bias += exact.sum(0)
    return (losses * weights).sum(), gradient @ table


def rows_of_a_piece(positions: int, vocabulary: int, device: str, itemsize: int) -> int:
    """Positions in a piece: as even as they come, so that padding the last one to their shape costs next to nothing."""
    most = max(1, PIECE_BYTES.get(device, PIECE_BYTES["cuda"]) // (vocabulary * itemsize))
    return math.ceil(positions / math.ceil(positions / most))


def cross_entropy(
    features: Tensor, table: Tensor, bias: Tensor | None, labels: Tensor, weights: Tensor, piece: Piece = piece
) -> Tensor:
    """sum_p weights[p] * -log softmax(features[p] table^T + bias)[labels[p]], as a scalar in fp32.

    features [P, D] in the compute dtype, table [V, D] and bias [V] fp32, labels [P] int64, weights [P] fp32. The
    gradients of table and bias are summed in fp32. `piece` may be the compiled one. Differentiable once.
    """
    loss: Tensor = _CrossEntropy.apply(features, table, bias, labels, weights, piece)
    return loss


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, table: Tensor, bias: Tensor | None, labels: Tensor, weights: Tensor, piece: Piece
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
                features[part], weight, shift, labels[part], weights[part], to_table, to_bias
            )
            loss += here
        ctx.save_for_backward(to_features[:positions], to_table, to_bias)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if g is None else (g * outer).to(g.dtype) for g in ctx.saved_tensors]
        return *scaled, None, None, None
