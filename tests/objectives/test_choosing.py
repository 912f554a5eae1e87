"""Words and spans: which positions are chosen together, how long spans are, and that no place is favoured."""

import numpy as np
import pytest
from scipy import stats

from gpuday.core.errors import UsageError
from gpuday.objectives import Vocabulary
from gpuday.objectives._choosing import choose, keep, spans, words

# Ids below 7 are special, those from 500 on continue a word.
VOCABULARY = Vocabulary(size=1000, mask_id=6, special_ids=tuple(range(7)), continues=tuple(range(500, 1000)))
KEYS = np.arange(2000, dtype=np.uint64)


def text(count, length, seed=0):
    """Rows of words of one to a few pieces, a separator here and there."""
    draw = np.random.default_rng(seed)
    rows = draw.integers(7, 1000, (count, length))
    rows[draw.random((count, length)) < 0.05] = 3
    return rows


def chosen_in(rows, k, unit, *, epoch=0, predict_specials=True):
    """[R, L] whether a position is among the chosen ones."""
    columns = choose(
        rows,
        KEYS[: len(rows)],
        k,
        unit=unit,
        predict_specials=predict_specials,
        seed=0,
        epoch=epoch,
        vocabulary=VOCABULARY,
    )
    found = np.zeros(rows.shape, dtype=bool)
    np.put_along_axis(found, columns, True, 1)
    assert (found.sum(1) == k).all()
    return found


def test_words_by_hand():
    """A word goes on until one begins; specials stand alone, and what follows one begins a word."""
    row = np.array([[600, 10, 700, 701, 20, 3, 800, 801, 30]])
    assert words(row, VOCABULARY).tolist() == [[0, 1, 1, 1, 2, 3, 4, 4, 5]]


def test_whole_words_are_chosen_but_for_the_end_of_the_last():
    """Of at most one word in a row some pieces are chosen and others not, and those are its first ones."""
    rows = text(500, 40)
    chosen, number = chosen_in(rows, 13, "word"), words(rows, VOCABULARY)
    partly = 0
    for row, ids in zip(chosen, number, strict=True):
        pieces = [row[ids == word] for word in range(ids[-1] + 1)]
        cut = [p for p in pieces if p.any() and not p.all()]
        assert len(cut) <= 1
        assert all((np.diff(p.astype(int)) <= 0).all() for p in cut)
        partly += len(cut)
    assert 0 < partly < 400


def test_every_word_is_chosen_equally_often():
    """Sixteen words of two pieces, four of them chosen: chi-square at p = 1e-4."""
    rows = np.tile(np.array([10, 600]), (2000, 16))
    counts = sum(chosen_in(rows, 8, "word", epoch=e)[:, ::2].sum(0) for e in range(4))
    expected = 8000 * 4 / 16
    variance = expected * (1 - 4 / 16) * 16 / 15
    assert ((counts - expected) ** 2).sum() / variance < stats.chi2.ppf(1 - 1e-4, 15)


def test_the_order_of_the_chosen_is_by_chance_piece_by_piece():
    """The first half, which may be masked while the rest is kept, does not hold whole words."""
    rows = np.tile(np.array([10, 600]), (2000, 16))
    options = {"predict_specials": True, "seed": 0, "epoch": 0, "vocabulary": VOCABULARY}
    first = choose(rows, KEYS, 8, unit="word", **options)[:, :4]
    together = np.mean([len(set(row // 2)) < 4 for row in first])
    # Four of eight pieces without a pair: 2^4 ways out of 70.
    assert together == pytest.approx(1 - 16 / 70, abs=4 * (0.177 / 2000) ** 0.5)


def test_spans_have_spanberts_lengths():
    """Geometric with 0.2, none above ten: the first span of 20,000 rows of words, chi-square at p = 1e-4."""
    groups = np.tile(np.arange(64), (20_000, 1))
    numbers, _ = spans(groups, np.arange(20_000, dtype=np.uint64), seed=0, epoch=0)
    lengths = np.bincount((numbers == 0).sum(1), minlength=11)[1:]
    assert len(lengths) == 10
    wanted = 0.2 * 0.8 ** np.arange(10)
    wanted /= wanted.sum()
    assert wanted @ np.arange(1, 11) == pytest.approx(3.8, abs=0.01)  # the paper's mean
    assert stats.chisquare(lengths, 20_000 * wanted).pvalue > 1e-4


def test_a_span_is_words_side_by_side_on_the_ring():
    """Each number stands in one piece, or at both ends of the row."""
    numbers, _ = spans(np.tile(np.arange(30), (50, 1)), KEYS[:50], seed=0, epoch=0)
    for row in numbers:
        changes = np.flatnonzero(np.diff(row) != 0)
        assert len(set(row)) in (len(changes), len(changes) + 1)


def test_spans_reach_over_whole_words():
    """All pieces of a word lie in the same span, so that only the last span chosen cuts one."""
    rows = text(300, 40)
    chosen, number = chosen_in(rows, 12, "span"), words(rows, VOCABULARY)
    for row, ids in zip(chosen, number, strict=True):
        pieces = [row[ids == word] for word in range(ids[-1] + 1)]
        assert sum(p.any() and not p.all() for p in pieces) <= 1
    runs = np.diff(np.pad(chosen, ((0, 0), (1, 1))).astype(int), axis=1)
    assert 12 / (runs == 1).sum(1).mean() > 3.0  # single tokens would make runs of about 1.4


def test_spans_favour_no_position():
    """Over 16,000 rows the ends of a row are chosen as often as its middle, within what clustering allows."""
    rows = np.full((2000, 24), 10)
    counts = sum(chosen_in(rows, 6, "span", epoch=e).sum(0) for e in range(8))
    expected = 16_000 * 6 / 24
    assert np.abs(counts - expected).max() < 4.5 * (expected * 0.75) ** 0.5


@pytest.mark.parametrize("unit", ["word", "span"])
def test_specials_come_last_where_they_are_not_to_be_predicted(unit):
    """Only when every other token of the row is chosen."""
    rows = text(300, 40)
    special = rows == 3
    chosen = chosen_in(rows, 12, unit, predict_specials=False)
    assert not (chosen & special).any()
    everything = chosen_in(rows, 40 - 1, unit, predict_specials=False)
    assert (everything | special).all(1)[special.any(1)].all()


def test_a_vocabulary_of_single_tokens_has_no_words():
    """Whole words would be single tokens without a word about it."""
    alone = Vocabulary(size=1000, mask_id=6, special_ids=(0,))
    with pytest.raises(UsageError, match="no token that continues a word"):
        words(text(2, 8), alone)


def test_what_is_kept_holds_the_chosen_and_others_by_chance():
    """Ascending columns, exactly as many as asked for; those not chosen stay equally often."""
    chosen = np.tile(np.array([5, 1]), (2000, 1))
    columns = keep(chosen, 16, 9, KEYS, seed=0, epoch=0)
    assert columns.shape == (2000, 9)
    assert (np.diff(columns, axis=1) > 0).all()
    counts = np.bincount(columns.reshape(-1), minlength=16)
    assert counts[[1, 5]].tolist() == [2000, 2000]
    others = np.delete(counts, [1, 5])
    variance = 2000 * 0.5 * 0.5 * 14 / 13
    assert ((others - 1000) ** 2).sum() / variance < stats.chi2.ppf(1 - 1e-4, 13)
