"""The head that predicts masked tokens, on an encoder.

Shapes: B rows, L positions, P predicted positions, D width, E width of the table of V vocabulary.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpuday.models.encoder import Encoder, EncoderConfig
from gpuday.models.linear import Linear


class Decoder(NamedTuple):
    """Logits are cap * tanh(z / cap) of z = features @ table^T + bias; z itself at cap 0. Table and bias are fp32."""

    table: Tensor
    """[V, E]."""
    bias: Tensor | None
    """[V] or None."""
    cap: float
    """The largest logit there can be; 0 for none."""


class MaskedLMHead(nn.Module):
    """hidden [P, D] -> logits [P, V] in hidden's dtype; the decoder is the embedding table where `tied`."""

    def __init__(self, config: EncoderConfig, vocab: int) -> None:
        super().__init__()
        inputs, outputs = config.width, config.table_width
        self.dense = Linear(inputs, outputs, bias=config.head_bias) if config.head_matrix else None
        activated = config.head_transform and config.head_activation
        self.norm = config.build_norm(outputs) if activated else None
        self.decoder = None if config.tied else nn.Parameter(torch.empty(vocab, outputs))
        self.bias = nn.Parameter(torch.zeros(vocab)) if config.decoder_bias else None
        self.cap = config.logit_cap

    def features(self, hidden: Tensor) -> Tensor:
        """hidden [P, D] -> what the decoder multiplies [P, E]."""
        if self.dense is not None:
            hidden = self.dense(hidden)
        return hidden if self.norm is None else self.norm(F.gelu(hidden))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.features(hidden)
        weight = embedding if self.decoder is None else self.decoder
        bias = None if self.bias is None else self.bias.to(hidden.dtype)
        logits = F.linear(hidden, weight.to(hidden.dtype), bias)
        return (self.cap * torch.tanh(logits.float() / self.cap)).to(hidden.dtype) if self.cap else logits


class MaskedLM(nn.Module):
    """An encoder and its head for masked tokens, apart so that each compiles once per shape.

    Where `shifted`, the token at a position is predicted from the hidden state at the position before it; that of a
    row's first position, which has none before it, from its own.
    """

    def __init__(self, config: EncoderConfig, *, vocab: int, length: int) -> None:
        super().__init__()
        self.config, self.vocab, self.length = config, vocab, length
        self.encoder = Encoder(config, vocab=vocab, length=length)
        self.head = MaskedLMHead(config, vocab)
        self.shifted = False  # an objective of next tokens sets it before anything is compiled

    def predict(self, hidden: Tensor, positions: Tensor | None = None) -> Tensor:
        """hidden [B, L, D], positions [P] int64 into the flattened B L (None: all) -> logits [P, V] of the tokens there."""
        return self.head(self._chosen(hidden, positions), self.encoder.embedding.weight)

    def features(self, hidden: Tensor, positions: Tensor | None = None) -> Tensor:
        """`predict` up to the decoder: hidden [B, L, D] -> [P, E]."""
        return self.head.features(self._chosen(hidden, positions))

    def decoder(self) -> Decoder:
        """What turns features into logits, for a loss that never holds all of them."""
        table = self.encoder.embedding.weight if self.head.decoder is None else self.head.decoder
        return Decoder(table, self.head.bias, self.head.cap)

    def forward(self, ids: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return self.predict(self.encoder(ids, mask), positions)

    def at(self, ids: Tensor, places: Tensor, mask: Tensor | None = None) -> Tensor:
        """ids [B, L], places [B, A] in each row -> logits [B, A, V] of the tokens there: `forward` at less cost."""
        if self.shifted:
            places = (places - 1).clamp_min(0)
        return self.head(self.encoder(ids, mask, asked=places), self.encoder.embedding.weight)

    def _chosen(self, hidden: Tensor, positions: Tensor | None) -> Tensor:
        if positions is None:
            moved = torch.cat((hidden[:, :1], hidden[:, :-1]), dim=1) if self.shifted else hidden
            return moved.flatten(0, 1)
        if self.shifted:
            positions = positions - (positions % hidden.shape[1]).clamp_max(1)
        return hidden.flatten(0, 1).index_select(0, positions)
