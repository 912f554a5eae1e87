import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuday.data.permutation import permute


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_every_row_comes_once(size: int, seed: int, epoch: int) -> None:
    """For every size, seed and epoch the positions map one to one onto the rows."""
    rows = permute(np.arange(size), size, seed=seed, epoch=epoch)
    assert sorted(rows.tolist()) == list(range(size))


def test_positions_do_not_depend_on_each_other() -> None:
    """Asking for one position gives what asking for all gives there."""
    rows = permute(np.arange(10_007), 10_007, seed=3, epoch=1)
    for position in (0, 17, 10_006):
        assert permute(np.array([position]), 10_007, seed=3, epoch=1)[0] == rows[position]


def test_seeds_and_epochs_give_other_orders() -> None:
    """About one position in n agrees by chance."""
    orders = [permute(np.arange(5000), 5000, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert all((orders[i] == orders[j]).sum() < 20 for i in range(3) for j in range(i))


def test_the_order_looks_random() -> None:
    """Position and row are uncorrelated, and so are rows of neighbours (5 sigma)."""
    rows = permute(np.arange(100_000), 100_000, seed=0, epoch=0)
    assert abs(np.corrcoef(np.arange(100_000), rows)[0, 1]) < 5 / np.sqrt(100_000)
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 5 / np.sqrt(100_000)


def test_a_huge_epoch_costs_nothing() -> None:
    """No array of the size of the epoch is made: 10^15 rows would not fit."""
    rows = permute(np.array([0, 10**15 - 1]), 10**15, seed=0, epoch=0)
    assert ((rows >= 0) & (rows < 10**15)).all()


def test_the_order_is_the_same_in_every_release() -> None:
    """A run that resumes under a newer version reads the same rows."""
    assert permute(np.arange(8), 8, seed=0, epoch=0).tolist() == [6, 0, 7, 4, 1, 2, 3, 5]


def test_a_position_outside_the_epoch_is_refused() -> None:
    """Both ends."""
    for position in (-1, 10):
        with pytest.raises(ValueError, match=r"range\(10\)"):
            permute(np.array([position]), 10, seed=0, epoch=0)
