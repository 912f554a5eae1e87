"""Predictions of a model at chosen positions, and samples of them: the regions that follow the trunk.

Shapes: B rows, L positions, P predicted positions in all, D width, E width of the table, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpuday.objectives._cross_entropy import Piece, cross_entropy, piece, rows_of_a_piece
from gpuday.objectives._loss import PLAIN, Loss

BLOCK = 64  # entries of the vocabulary whose probabilities are added up before one among them is looked for

Sampler = Callable[[Tensor, Tensor, Tensor | None, Tensor, float], Tensor]


class Predictions:
    """The head of a model, as regions of fixed shapes: features and pieces of the loss, each of which compiles."""

    def __init__(self, model: Any, loss: Loss = PLAIN) -> None:
        loss.refuse_cap(model)
        self._model, self._loss = model, loss
        self._features: Callable[[Tensor, Tensor], Tensor] = model.features
        self._piece: Piece = piece
        self._sample: Sampler = sample

    def compile(self, **options: Any) -> None:
        self._features = torch.compile(self._model.features, **options)
        self._piece = torch.compile(piece, **options)

    def compile_sampling(self, **options: Any) -> None:
        """Of those alone that sample."""
        self._sample = torch.compile(sample, **options)

    def features(self, hidden: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """hidden [B, L, D] -> what the decoder multiplies at the inputs' positions [P, E]."""
        return self._features(hidden, inputs["positions"])

    def loss(self, hidden: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the losses of the inputs' labels at their positions."""
        return self.loss_of(self.features(hidden, inputs), inputs)

    def loss_of(self, features: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """`loss` of features [P, E] that are there already."""
        table, bias, cap = self._model.decoder()
        return cross_entropy(
            features, table, bias, inputs["labels"], inputs["weights"], self._piece, loss=self._loss, cap=cap
        )

    @torch.no_grad()
    def samples(self, features: Tensor, uniform: Tensor) -> Tensor:
        """An id [P] int64 of each position's own distribution, by its number in [0, 1) of `uniform` [P] fp32."""
        table, bias, cap = self._model.decoder()
        features = features.detach()
        weight, shift = table.to(features.dtype), None if bias is None else bias.to(features.dtype)
        positions = len(uniform)
        rows = rows_of_a_piece(positions, len(table), features.device.type, features.itemsize)
        extra = -positions % rows  # one shape for all pieces, as in the loss
        features, uniform = F.pad(features, (0, 0, 0, extra)), F.pad(uniform, (0, extra))
        pieces = zip(features.split(rows), uniform.split(rows), strict=True)
        return torch.cat([self._sample(x, weight, shift, u, cap) for x, u in pieces])[:positions]


def sample(features: Tensor, table: Tensor, bias: Tensor | None, uniform: Tensor, cap: float) -> Tensor:
    """Ids [P] drawn from softmax(capped logits) by inverting the distribution function at `uniform` [P] fp32 in [0, 1).

    features [P, E], table [V, E] and bias [V] or None in the compute dtype; probabilities and sums in fp32. The same
    distribution as the argmax of logits with Gumbel noise, for one random number a position and not V of them. In two
    levels, blocks and then entries, so that the sums are short.
    """
    logits = F.linear(features, table, bias).float()
    if cap:
        logits = cap * torch.tanh(logits / cap)
    size = logits.shape[-1]
    numerators = (logits - logits.amax(-1, keepdim=True)).exp()
    blocks = F.pad(numerators, (0, -size % BLOCK)).unflatten(-1, (-1, BLOCK))
    until_block = blocks.sum(-1).cumsum(-1)
    wanted = uniform[:, None] * until_block[:, -1:]
    block = (until_block <= wanted).sum(-1, keepdim=True).clamp_max(until_block.shape[-1] - 1)
    before = F.pad(until_block, (1, 0)).gather(-1, block)
    entries = blocks.gather(1, block[:, :, None].expand(-1, 1, BLOCK)).squeeze(1).cumsum(-1)
    entry = (entries <= wanted - before).sum(-1, keepdim=True).clamp_max(BLOCK - 1)
    return (block * BLOCK + entry).clamp_max(size - 1).squeeze(-1)
