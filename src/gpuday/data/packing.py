"""Packing: documents laid end to end and cut into rows of equal length, without padding.

Packing restarts at every shard; what does not fill a last row there is dropped.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def surround(
    ids: NDArray[np.int64], lengths: NDArray[np.int64], *, first: int | None, last: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(tokens [T], starts [D]) of D documents, which are given end to end: `ids`, of which each has `lengths` [D].

    Each comes to stand between the special tokens `first` and `last`, where they are given.
    """
    sizes = lengths + (first is not None) + (last is not None)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    tokens, is_text = np.empty(int(sizes.sum()), dtype=np.int64), np.ones(int(sizes.sum()), dtype=bool)
    for special, places in ((first, starts), (last, ends - 1)):
        if special is not None:
            tokens[places], is_text[places] = special, False
    tokens[is_text] = ids
    return tokens, starts


class ShardPacker:
    """Cuts the token stream of one shard into rows; holds back what does not fill a row yet."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._rest = np.zeros(0, dtype=np.int64)
        self._starts: list[NDArray[np.int64]] = []
        self._seen = 0

    def add(self, tokens: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[Any]:
        """The rows [R, length] that are complete after these tokens [T], whose documents begin at `starts` [D]."""
        self._starts.append(starts + self._seen)
        self._seen += len(tokens)
        stream = np.concatenate([self._rest, tokens])
        whole = len(stream) - len(stream) % self._length
        self._rest = stream[whole:]
        return stream[:whole].reshape(-1, self._length)

    def finish(self) -> tuple[NDArray[np.int64], int]:
        """(starts of the documents that reached a row, dropped tokens)."""
        kept = self._seen - len(self._rest)
        starts = np.concatenate([np.zeros(0, dtype=np.int64), *self._starts])
        return starts[starts < kept], len(self._rest)
