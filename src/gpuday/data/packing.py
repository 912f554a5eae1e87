"""Packing: documents laid end to end and cut into rows of equal length, without padding.

Packing restarts at every shard; what does not fill a last row there is dropped.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def concatenate(
    documents: Sequence[Sequence[int]], *, first: int | None, last: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(tokens [T], starts [D]): documents end to end, each between the special tokens `first` and `last` if given."""
    before = () if first is None else (first,)
    after = () if last is None else (last,)
    extra = len(before) + len(after)
    lengths = np.fromiter((len(d) + extra for d in documents), dtype=np.int64, count=len(documents))
    parts = itertools.chain.from_iterable((before, d, after) for d in documents) if extra else documents
    flat = itertools.chain.from_iterable(parts)
    tokens = np.fromiter(flat, dtype=np.int64, count=int(lengths.sum()))
    return tokens, np.cumsum(lengths) - lengths


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
