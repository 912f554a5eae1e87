"""A random permutation of range(n) that is computed, not stored: a Feistel network with cycle walking.

Black & Rogaway, "Ciphers with Arbitrary Finite Domains" (CT-RSA 2002). Position i can be asked for without the ones
before it, so that a loader's whole state is one integer.
"""

import numpy as np
from numpy.typing import NDArray

from gpuday.core.seeds import mix64, stream_seed

_ROUNDS = 6


def permute(positions: NDArray[np.int64], size: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Rows [P] at the given positions [P] of the permutation of range(size) that belongs to (seed, epoch).

    Time grows with P alone; memory is a few arrays of P. Positions must lie in range(size).
    """
    values = np.asarray(positions, dtype=np.int64)
    if values.size and (int(values.min()) < 0 or int(values.max()) >= size):
        raise ValueError(f"positions must lie in range({size})")
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = [np.uint64(stream_seed(seed, "order", epoch, r)) for r in range(_ROUNDS)]
    result = _feistel(values.astype(np.uint64), half, keys)
    # The network permutes the next even power of two, at most four times too large: walk on until inside.
    outside = np.flatnonzero(result >= size)
    while outside.size:
        walked = _feistel(result[outside], half, keys)
        result[outside] = walked
        outside = outside[walked >= size]
    return result.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half: np.uint64, keys: list[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (mix64(right ^ key) & mask)
    return (left << half) | right
