"""Named streams: what one draws depends on its name and keys, and on nothing else."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpuday.core import seeds

U64 = st.integers(0, 2**64 - 1)
GOLDEN = 0x9E3779B97F4A7C15


def test_mix64_gives_the_published_splitmix64_sequence() -> None:
    """SplitMix64 from seed 1234567 gives the five numbers that its reference implementations print."""
    states = np.array([(1234567 + i * GOLDEN) % 2**64 for i in range(5)], dtype=np.uint64)
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert seeds.mix64(states).tolist() == expected


@given(st.lists(U64, unique=True, min_size=2, max_size=50))
def test_mix64_never_maps_two_words_to_one(words: list[int]) -> None:
    """It is a bijection, so that distinct keys keep distinct hashes."""
    assert len(set(seeds.mix64(np.array(words, dtype=np.uint64)).tolist())) == len(words)


def test_mix64_changes_half_of_the_bits_when_one_changes() -> None:
    """Full avalanche: over 64 input bits and 200 words the mean flip rate is 1/2 within four standard errors."""
    words = np.random.default_rng(0).integers(0, 2**64, 200, dtype=np.uint64)
    flipped = words[:, None] ^ (np.uint64(1) << np.arange(64, dtype=np.uint64))[None, :]
    changes = np.bitwise_count(seeds.mix64(words)[:, None] ^ seeds.mix64(flipped))
    standard_error = 0.5 / np.sqrt(changes.size * 64)
    assert abs(changes.mean() / 64 - 0.5) < 4 * standard_error


def test_streams_of_one_seed_differ_by_name_key_and_seed() -> None:
    """Init, masks and order never share a stream, nor do two epochs or two seeds."""
    given = [
        seeds.stream_seed(0, "init"),
        seeds.stream_seed(0, "mask"),
        seeds.stream_seed(0, "mask", 0),
        seeds.stream_seed(0, "mask", 1),
        seeds.stream_seed(0, "mask", 1, 0),
        seeds.stream_seed(1, "mask"),
        seeds.stream_seed(-1, "mask"),
        seeds.stream_seed(1, "mask", 1),
        seeds.stream_seed(11, "mask"),
        seeds.stream_seed(1, "mask", 11),
    ]
    assert len(set(given)) == len(given)


@given(st.integers(), st.text(max_size=20), st.lists(st.integers(), max_size=3))
def test_a_stream_seed_fits_every_generator(seed: int, name: str, keys: list[int]) -> None:
    """63 bits, never negative: torch.manual_seed and numpy both take it."""
    assert 0 <= seeds.stream_seed(seed, name, *keys) < 2**63


def test_a_stream_is_the_same_in_every_process() -> None:
    """Python's own string hash, which changes from process to process, plays no part."""
    code = "from gpuday.core import seeds; print(seeds.stream_seed(3, 'order', 7), seeds.generator(3, 'x').random())"
    here = f"{seeds.stream_seed(3, 'order', 7)} {seeds.generator(3, 'x').random()}"
    for hash_seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert out.stdout.strip() == here


def test_a_generator_repeats_and_streams_are_uncorrelated() -> None:
    """The same name draws the same numbers; another name draws unrelated ones."""
    a, again = seeds.generator(5, "a").random(10_000), seeds.generator(5, "a").random(10_000)
    b = seeds.generator(5, "b").random(10_000)
    assert np.array_equal(a, again)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.04  # four standard errors of 10,000 pairs


def test_hashes_of_a_row_do_not_depend_on_its_neighbours() -> None:
    """A row's words are the same alone, in any batch and at any place in it."""
    keys = np.array([9, 3, 2**63, 0, 3], dtype=np.uint64)
    whole = seeds.hashes(1, "mask", 0, keys, 16)
    assert whole.shape == (5, 16)
    assert whole.dtype == np.uint64
    for i, key in enumerate(keys):
        assert np.array_equal(seeds.hashes(1, "mask", 0, np.array([key]), 16)[0], whole[i])
    assert np.array_equal(whole[1], whole[4])


def test_hashes_of_a_shorter_row_are_the_beginning_of_a_longer_one() -> None:
    """Width only adds columns."""
    keys = np.arange(4, dtype=np.uint64)
    assert np.array_equal(seeds.hashes(1, "m", 0, keys, 8), seeds.hashes(1, "m", 0, keys, 32)[:, :8])


def test_hashes_differ_by_seed_name_epoch_and_salt() -> None:
    """Each of the four gives a field of words that shares none with the others."""
    keys = np.arange(50, dtype=np.uint64)
    fields = [
        seeds.hashes(0, "mask", 0, keys, 20),
        seeds.hashes(1, "mask", 0, keys, 20),
        seeds.hashes(0, "order", 0, keys, 20),
        seeds.hashes(0, "mask", 1, keys, 20),
        seeds.hashes(0, "mask", 0, keys, 20, salt=1),
    ]
    assert len(np.unique(np.stack(fields))) == 5 * 50 * 20


def test_hashes_are_uniform_over_rows_and_columns() -> None:
    """Chi-square over 256 bins of top and bottom bytes stays below its 99.99 % point, and no row or column stands out."""
    words = seeds.hashes(7, "mask", 3, np.arange(2000, dtype=np.uint64), 128)
    for byte in (words >> np.uint64(56), words & np.uint64(255)):
        counts = np.bincount(byte.astype(np.int64).ravel(), minlength=256)
        expected = words.size / 256
        assert ((counts - expected) ** 2 / expected).sum() < 347  # chi-square, 255 degrees of freedom, p = 1e-4
    unit = (words >> np.uint64(11)) / 2.0**53
    assert np.abs(unit.mean(axis=1) - 0.5).max() < 5.5 * np.sqrt(1 / 12 / 128)
    assert np.abs(unit.mean(axis=0) - 0.5).max() < 5.5 * np.sqrt(1 / 12 / 2000)


def test_hashes_of_neighbouring_rows_and_columns_are_uncorrelated() -> None:
    """Consecutive keys and positions, the ones that occur, leave no pattern."""
    unit = (seeds.hashes(7, "mask", 3, np.arange(1000, dtype=np.uint64), 100) >> np.uint64(11)) / 2.0**53
    assert abs(np.corrcoef(unit[1:].ravel(), unit[:-1].ravel())[0, 1]) < 4 / np.sqrt(unit.size)
    assert abs(np.corrcoef(unit[:, 1:].ravel(), unit[:, :-1].ravel())[0, 1]) < 4 / np.sqrt(unit.size)
