"""Heads on an encoder: prediction of masked tokens, and classification or regression of whole rows.

Shapes: B rows, L positions, P predicted positions, D width, V vocabulary, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpuday.models.encoder import Encoder, EncoderConfig
from gpuday.models.linear import Linear


class MaskedLMHead(nn.Module):
    """hidden [P, D] -> logits [P, V] in hidden's dtype; the decoder is the embedding table where `tied`."""

    def __init__(self, config: EncoderConfig, vocab: int) -> None:
        super().__init__()
        self.dense = Linear(config.width, config.width, bias=config.head_bias) if config.head_transform else None
        self.norm = config.build_norm() if config.head_transform else nn.Identity()
        self.decoder = None if config.tied else nn.Parameter(torch.empty(vocab, config.width))
        self.bias = nn.Parameter(torch.zeros(vocab)) if config.decoder_bias else None

    def features(self, hidden: Tensor) -> Tensor:
        """hidden [P, D] -> what the decoder multiplies [P, D]."""
        return hidden if self.dense is None else self.norm(F.gelu(self.dense(hidden)))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.features(hidden)
        weight = embedding if self.decoder is None else self.decoder
        bias = None if self.bias is None else self.bias.to(hidden.dtype)
        return F.linear(hidden, weight.to(hidden.dtype), bias)


class MaskedLM(nn.Module):
    """An encoder and its head for masked tokens, apart so that each compiles once per shape."""

    def __init__(self, config: EncoderConfig, *, vocab: int, length: int) -> None:
        super().__init__()
        self.config, self.vocab, self.length = config, vocab, length
        self.encoder = Encoder(config, vocab=vocab, length=length)
        self.head = MaskedLMHead(config, vocab)

    def predict(self, hidden: Tensor, positions: Tensor | None = None) -> Tensor:
        """hidden [B, L, D], positions [P] int64 into the flattened B L (None: all) -> logits [P, V]."""
        return self.head(_chosen(hidden, positions), self.encoder.embedding.weight)

    def features(self, hidden: Tensor, positions: Tensor | None = None) -> Tensor:
        """`predict` up to the decoder: hidden [B, L, D] -> [P, D]."""
        return self.head.features(_chosen(hidden, positions))

    def decoder(self) -> tuple[Tensor, Tensor | None]:
        """(table [V, D], bias [V] or None), both fp32: logits are features @ table^T + bias."""
        return self.encoder.embedding.weight if self.head.decoder is None else self.head.decoder, self.head.bias

    def forward(self, ids: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return self.predict(self.encoder(ids, mask), positions)


def _chosen(hidden: Tensor, positions: Tensor | None) -> Tensor:
    flat = hidden.flatten(0, 1)
    return flat if positions is None else flat.index_select(0, positions)


class Classifier(nn.Module):
    """The paper's downstream head on position 0: dense to `width`, tanh, dropout, linear to `outputs`.

    (ids [B, L], mask [B, L]) -> logits [B, C] fp32. Geiping & Goldstein, arXiv 2212.14034, evaluation protocol.
    """

    def __init__(self, encoder: Encoder, outputs: int, *, dropout: float = 0.1, std: float = 0.02) -> None:
        super().__init__()
        width = encoder.config.width
        hidden = 64 * max(1, round(width * 4 / 3 / 64))  # 1024 at the paper's width of 768
        self.encoder = encoder
        self.dense = Linear(width, hidden, bias=True)
        self.output = Linear(hidden, outputs, bias=True)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.dense, self.output):
            nn.init.normal_(layer.weight, std=std)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        pooled = self.encoder(ids, mask)[:, 0]
        return self.output(self.dropout(torch.tanh(self.dense(pooled)))).float()
