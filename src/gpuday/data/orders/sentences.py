"""Rows of many sentences first: the order of the final recipe of Geiping & Goldstein (arXiv:2212.14034)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpuday.data.orders import Order, RowScore, Scores
from gpuday.data.tokenfile import TokenStore

if TYPE_CHECKING:
    from gpuday.data.tokenizer import TextTokenizer


@dataclass(frozen=True, kw_only=True)
class Sentences(Order):
    """Descending count of tokens that are a full stop."""

    reverse: bool = False
    """True: few full stops first."""

    def score(self) -> RowScore | None:
        return RowScore(name="sentences", compute=_full_stops, descending=not self.reverse)


def _full_stops(store: TokenStore, tokenizer: "TextTokenizer") -> Iterator[Scores]:
    is_stop = np.zeros(tokenizer.vocab_size, dtype=bool)
    is_stop[tokenizer.ids_of_text(".")] = True
    for block in store.blocks():
        yield is_stop[block].sum(axis=1).astype(np.float32)
