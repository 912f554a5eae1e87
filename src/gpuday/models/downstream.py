"""Heads for downstream tasks over any body, which turns token ids into hidden states.

A body is an `Encoder`, which has no token types, or is called as (ids [B, L] int64, mask [B, L] bool, types [B, L] int64
or None) -> hidden [B, L, D].
Shapes: B rows, L positions, D width, C outputs.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpuday.models.dropout import Dropout
from gpuday.models.encoder import Encoder
from gpuday.models.linear import Linear
from gpuday.models.norm import Norm

Head = Literal["paper", "bert", "modernbert"]
Pooling = Literal["first", "mean"]
NORM_EPS = 1e-5  # of ModernBERT's head, as in the configuration of Hugging Face's class
STD = 0.02  # of new matrices; biases start at 0


class Classifier(nn.Module):
    """Scores of whole rows: (ids, mask, types) -> [B, C] fp32.

    They are read from position 0 (pooling `first`), or from the mean over the row's tokens, special ones included and padding
    not, taken in fp32 (`mean`, as Reimers & Gurevych, arXiv 1908.10084, and ModernBERT's class of Transformers do).

    `paper`: dense to 4/3 of the width, tanh (Geiping & Goldstein, arXiv 2212.14034, evaluation protocol). `bert`: the
    pooler of arXiv 1810.04805, dense to the width, tanh. `modernbert`: the head of arXiv 2412.13663, dense to the width
    without bias, GELU, norm. Then, in all of them, dropout and a linear layer. A task of choice has C = 1 and a row a candidate.
    """

    def __init__(
        self,
        body: nn.Module,
        width: int,
        outputs: int,
        *,
        head: Head = "paper",
        pooling: Pooling = "first",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        hidden = 64 * max(1, round(width * 4 / 3 / 64)) if head == "paper" else width  # 1024 at the paper's 768
        self.body, self.head, self.pooling = body, head, pooling
        self.dense = Linear(width, hidden, bias=head != "modernbert")
        self.norm = Norm(hidden, kind="layernorm", eps=NORM_EPS, bias=False) if head == "modernbert" else None
        self.output = Linear(hidden, outputs, bias=True)
        self.dropout = Dropout(dropout)
        for layer in (self.dense, self.output):
            nn.init.normal_(layer.weight, std=STD)

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        first = self.pooling == "first"
        hidden = hidden_states(self.body, ids, mask, types, first=first)
        pooled = self.dense(hidden[:, 0] if first else mean_of_tokens(hidden, mask))
        pooled = torch.tanh(pooled) if self.norm is None else self.norm(F.gelu(pooled))
        return self.output(self.dropout(pooled)).float()


def hidden_states(body: nn.Module, ids: Tensor, mask: Tensor, types: Tensor | None, *, first: bool = False) -> Tensor:
    """[B, L, D], of which only position 0 is asked for if `first`: an `Encoder`'s last block then computes it alone, [B, 1, D]."""
    if isinstance(body, Encoder):
        return body(ids, mask, asked=ids.new_zeros(len(ids), 1) if first else None)
    hidden: Tensor = body(ids, mask, types)
    return hidden


def mean_of_tokens(hidden: Tensor, mask: Tensor) -> Tensor:
    """hidden [B, L, D], mask [B, L] bool, true at tokens -> [B, D] in the dtype of hidden; 0 for a row without a token."""
    total = hidden.float().masked_fill(~mask[..., None], 0.0).sum(1)
    return (total / mask.sum(1, keepdim=True).clamp(min=1)).to(hidden.dtype)


class _PerToken(nn.Module):
    """Scores of every token: (ids, mask, types) -> [B, L, C] fp32.

    `paper` and `bert`: dropout and a linear layer, as in arXiv 1810.04805; `modernbert`: its dense layer, GELU and norm
    before them.
    """

    def __init__(
        self, body: nn.Module, width: int, outputs: int, *, head: Head = "paper", dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.body, self.head = body, head
        modern = head == "modernbert"
        self.dense = Linear(width, width, bias=False) if modern else None
        self.norm = Norm(width, kind="layernorm", eps=NORM_EPS, bias=False) if modern else None
        self.output = Linear(width, outputs, bias=True)
        self.dropout = Dropout(dropout)
        for layer in (self.dense, self.output):
            if layer is not None:
                nn.init.normal_(layer.weight, std=STD)

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        hidden = hidden_states(self.body, ids, mask, types)
        if self.dense is not None and self.norm is not None:
            hidden = self.norm(F.gelu(self.dense(hidden)))
        return self.output(self.dropout(hidden)).float()


class Tagger(_PerToken):
    """C classes for every token."""


class Spans(_PerToken):
    """Two scores for every token: of being an answer's first, and of being its last."""

    def __init__(self, body: nn.Module, width: int, *, head: Head = "paper", dropout: float = 0.1) -> None:
        super().__init__(body, width, 2, head=head, dropout=dropout)
