"""Rows of common tokens first, by their mean unigram log-probability.

Geiping & Goldstein (arXiv:2212.14034), section 4.4: "sort all tokenized sequences by some metric (here: unigram
frequency)", likely ones first. Their code's option of this name does the opposite; `reverse` gives it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpuday.data.orders import Order, RowScore, Scores
from gpuday.data.tokenfile import TokenStore

if TYPE_CHECKING:
    from gpuday.data.tokenizer import TextTokenizer


@dataclass(frozen=True, kw_only=True)
class Unigram(Order):
    """Descending mean log-probability of a row's tokens under the corpus's own token frequencies."""

    reverse: bool = False
    """True: rare tokens first."""

    def score(self) -> RowScore | None:
        return RowScore(name="unigram", compute=_mean_log_probability, descending=not self.reverse)


def _mean_log_probability(store: TokenStore, tokenizer: "TextTokenizer") -> Iterator[Scores]:
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for block in store.blocks():
        counts += np.bincount(block.ravel(), minlength=len(counts))
    log_probability = np.log(np.maximum(counts, 1) / max(int(counts.sum()), 1))
    for block in store.blocks():
        yield log_probability[block].mean(axis=1).astype(np.float32)
