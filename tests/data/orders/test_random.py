from pathlib import Path

import numpy as np
import pytest

from gpuday.core.errors import DataError
from gpuday.data.orders.random import Random
from gpuday.data.orders.unigram import Unigram
from gpuday.data.permutation import permute
from gpuday.data.tokenfile import TokenStore, TokenWriter


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    """50 rows with the scores 0, 1, 2, 3, 4, 0, 1, ..."""
    writer = TokenWriter(tmp_path / "train.tok", length=8, vocab_size=64, vocabulary="v")
    writer.append(np.arange(400).reshape(50, 8) % 64)
    writer.end_shard("s", np.array([0]))
    store = writer.finish()
    store.write_scores("unigram", [np.arange(50, dtype=np.float32) % 5])
    return store


def test_a_random_epoch_is_the_permutation(store: TokenStore) -> None:
    """Whatever is expected to be read."""
    order = Random().rows(store, seed=1, epoch=2, expected_rows=7)
    assert len(order) == 50
    assert order(np.arange(50)).tolist() == permute(np.arange(50), 50, seed=1, epoch=2).tolist()


@pytest.mark.parametrize("expected_rows", [0, 1, 20, 50, 1000])
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_sorted_epoch_has_every_row_once(store: TokenStore, expected_rows: int, epoch: int) -> None:
    """Also beyond the rows that were expected."""
    order = Unigram().rows(store, seed=0, epoch=epoch, expected_rows=expected_rows)
    assert sorted(order(np.arange(50)).tolist()) == list(range(50))


def test_only_the_rows_that_will_be_read_are_sorted(store: TokenStore) -> None:
    """The first 20 are those of a random epoch, by falling score, ties in random order; the rest follows at random."""
    random = permute(np.arange(50), 50, seed=0, epoch=0)
    rows = Unigram().rows(store, seed=0, epoch=0, expected_rows=20)(np.arange(50))
    assert rows[:20].tolist() == sorted(random[:20].tolist(), key=lambda r: (-(r % 5), random.tolist().index(r)))
    assert rows[20:].tolist() == random[20:].tolist()


def test_any_positions_can_be_asked_for(store: TokenStore) -> None:
    """Resuming in the middle needs nothing from before."""
    order = Unigram(reverse=True).rows(store, seed=0, epoch=0, expected_rows=20)
    whole = order(np.arange(50))
    assert order(np.array([33, 4, 19, 20])).tolist() == whole[[33, 4, 19, 20]].tolist()


def test_missing_scores_are_an_error_that_says_so(store: TokenStore) -> None:
    """A store that was prepared for another order."""
    (store.folder / "scores" / "unigram.bin").unlink()
    with pytest.raises(DataError, match="no scores 'unigram'"):
        Unigram().rows(store, seed=0, epoch=0, expected_rows=1)
