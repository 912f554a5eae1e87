"""Named random streams from one seed. Every stream is a pure function of (seed, name, keys): there is no state to save.

`mix64` is the finaliser of SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014).
"""

import numpy as np
import xxhash
from numpy.typing import NDArray

U64 = NDArray[np.uint64]


def stream_seed(seed: int, name: str, *keys: int) -> int:
    """A 63-bit seed for the stream `name` of a run's seed, at the given integer keys (step, epoch, ...)."""
    text = "\x1f".join([str(seed), name, *(str(k) for k in keys)])
    return xxhash.xxh3_64_intdigest(text.encode()) >> 1


def generator(seed: int, name: str, *keys: int) -> np.random.Generator:
    """A numpy generator for a named stream."""
    return np.random.Generator(np.random.Philox(stream_seed(seed, name, *keys)))


def mix64(x: U64) -> U64:
    """A 64-bit hash of every element: a bijection with full avalanche. Shape is kept."""
    with np.errstate(over="ignore"):
        z = x + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def hashes(seed: int, name: str, epoch: int, keys: U64, width: int, salt: int = 0) -> U64:
    """Counter-based random 64-bit words of shape [len(keys), width]: row i depends on its own key alone."""
    base = np.uint64(stream_seed(seed, name, epoch, salt))
    rows = mix64(np.asarray(keys, dtype=np.uint64) ^ base)
    columns = mix64(np.arange(width, dtype=np.uint64) ^ mix64(np.array([base], dtype=np.uint64)))
    return mix64(rows[:, None] ^ columns[None, :])
