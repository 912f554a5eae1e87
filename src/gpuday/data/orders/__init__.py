"""In which order the rows of an epoch are read. One file per order.

An order either is random, or sorts rows by a score that `prepare` computes once and stores beside the tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from gpuday.core.parts import Part
from gpuday.data.permutation import permute
from gpuday.data.tokenfile import TokenStore

if TYPE_CHECKING:
    from gpuday.data.tokenizer import TextTokenizer

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class RowScore:
    """A number for every row."""

    name: str
    """File name under which the scores are stored; it stands for how they are computed."""
    compute: "Callable[[TokenStore, TextTokenizer], Iterator[Scores]]"
    """Scores in row order, in pieces of any length, so that memory does not follow the corpus."""
    descending: bool
    """Whether the row with the largest score comes first."""


class Order(Part, ABC):
    """A permutation of the rows for every (seed, epoch)."""

    @abstractmethod
    def score(self) -> RowScore | None:
        """What rows are sorted by, or None to read them at random."""

    @final
    def rows(self, store: TokenStore, *, seed: int, epoch: int, expected_rows: int) -> "RowOrder":
        """The order of one epoch, when the budget is expected to read `expected_rows` rows over all epochs.

        A scored order takes the rows that a random epoch would read first, as many as the budget has left for this
        epoch, and sorts those; what is read beyond them follows at random. Costs 8 bytes for each expected row.
        Raises DataError when the store lacks the scores.
        """
        score, size = self.score(), len(store)
        head = np.zeros(0, dtype=np.int64)
        if score is not None:
            head = permute(np.arange(min(max(expected_rows - epoch * size, 0), size)), size, seed=seed, epoch=epoch)
            keys = store.scores(score.name)[head]
            head = head[np.argsort(-keys if score.descending else keys, kind="stable")]
        return RowOrder(size, seed=seed, epoch=epoch, head=head)


class RowOrder:
    """Positions to rows, for one epoch: a bijection of range(len(order))."""

    def __init__(self, size: int, *, seed: int, epoch: int, head: Rows) -> None:
        self._size, self._seed, self._epoch, self._head = size, seed, epoch, head

    def __len__(self) -> int:
        return self._size

    def __call__(self, positions: Rows) -> Rows:
        """Rows int64 [P] that are read at the positions int64 [P] of the epoch."""
        positions = np.asarray(positions, dtype=np.int64)
        rows = permute(positions, self._size, seed=self._seed, epoch=self._epoch)
        inside = positions < len(self._head)
        rows[inside] = self._head[positions[inside]]
        return rows
