"""Which positions of a row are predicted: single tokens, whole words or spans of words, always exactly k of them.

Whole words: all pieces of a word or none, as in the second release of BERT (Devlin et al., arXiv 1810.04805). Spans:
Joshi et al., SpanBERT, arXiv 1907.10529. Shapes: R rows, L positions, k predicted positions a row.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpuday.core.errors import UsageError
from gpuday.core.seeds import U64, hashes
from gpuday.objectives import Int, Vocabulary

Unit = Literal["token", "word", "span"]
# SpanBERT's lengths, in words: geometric, none above 10, which makes 3.8 on average.
ENDS, MOST_WORDS = 0.2, 10
LAST = np.uint64(1 << 63)  # a draw from here on comes after all others


def choose(
    rows: Int, keys: U64, k: int, *, unit: Unit, predict_specials: bool, seed: int, epoch: int, vocabulary: Vocabulary
) -> Int:
    """[R, k] columns, in random order. Rows [R, L] are independent of each other.

    Words and spans are taken in random order until k positions are: of the last one, only its first pieces. Without
    `predict_specials` specials are taken only when nothing else is left.
    """
    length = rows.shape[1]
    draw = hashes(seed, "mask", epoch, keys, length)
    places = np.zeros_like(rows)
    if unit != "token":
        groups = words(rows, vocabulary)
        if unit == "span":
            numbers, turned = spans(groups, keys, seed=seed, epoch=epoch)
            groups, places = np.take_along_axis(numbers, groups, 1), np.take_along_axis(turned, groups, 1)
        draw = np.take_along_axis(draw, groups, 1)
    if not predict_specials:
        draw = draw >> np.uint64(1)
        draw[np.isin(rows, vocabulary.special_ids)] |= LAST
    if unit != "token":
        return _in_random_order(np.lexsort((places, draw), axis=1)[:, :k], keys, seed=seed, epoch=epoch)
    # The k smallest draws, in random order: which of them are masked, replaced or kept is again by chance.
    everywhere = np.tile(np.arange(length), (len(rows), 1))
    chosen = np.argpartition(draw, k - 1, axis=1)[:, :k] if k < length else everywhere
    return np.take_along_axis(chosen, np.argsort(np.take_along_axis(draw, chosen, 1), axis=1), 1)


def words(rows: Int, vocabulary: Vocabulary) -> Int:
    """[R, L] number of each token's word within its row; a special is a word, and what follows it begins one.

    Raises UsageError where no token of the vocabulary continues a word: every token would be one.
    """
    if not vocabulary.continues:
        raise UsageError(
            "this tokenizer has no token that continues a word",
            where="objective.unit",
            fix="set it to token, or take a tokenizer that knows where words begin (bpe, wordpiece)",
        )
    special = np.isin(rows, vocabulary.special_ids)
    begins = special | ~vocabulary.continuing[rows]
    begins[:, 0] = True
    begins[:, 1:] |= special[:, :-1]
    return np.cumsum(begins, axis=1) - 1


def spans(groups: Int, keys: U64, *, seed: int, epoch: int) -> tuple[Int, Int]:
    """([R, L] number of the span to which each word belongs, [R, L] place of the word on the ring), by number of the word;
    groups [R, L] are the words of the tokens.

    A row's words are a ring, cut into spans from a random word on, so that no word is favoured: a span may begin at the
    end of the row and go on at its beginning.
    """
    count, length = groups.shape
    present = groups[:, -1:] + 1
    drawn = uniform(hashes(seed, "span", epoch, keys, length))
    # The inverse of the distribution function, which ends at the longest span.
    whole = 1.0 - (1.0 - ENDS) ** MOST_WORDS
    lengths = 1 + np.floor(np.log1p(-drawn * whole) / np.log1p(-ENDS)).astype(np.int64)
    begins = np.zeros((count, length + 1), dtype=np.int64)
    np.put_along_axis(begins, np.minimum(np.cumsum(lengths, axis=1), length), 1, 1)
    numbers = np.cumsum(begins[:, :length], axis=1)
    offset = np.floor(uniform(hashes(seed, "turn", epoch, keys, 1)) * present).astype(np.int64)
    turned = (np.arange(length) + offset) % present  # of the columns beyond the row's words nothing is read
    return np.take_along_axis(numbers, turned, 1), turned


def keep(chosen: Int, length: int, shown: int, keys: U64, *, seed: int, epoch: int) -> Int:
    """[R, shown] ascending columns of a row of `length`: the chosen ones [R, k], and others by chance."""
    draw = hashes(seed, "drop", epoch, keys, length) | LAST
    np.put_along_axis(draw, chosen, np.uint64(0), 1)
    return np.sort(np.argpartition(draw, shown - 1, axis=1)[:, :shown], axis=1)


def _in_random_order(chosen: Int, keys: U64, *, seed: int, epoch: int) -> Int:
    """Each row of [R, k] shuffled: what is masked, replaced or kept is decided piece by piece, not word by word."""
    order = np.argsort(hashes(seed, "role", epoch, keys, chosen.shape[1]), axis=1)
    return np.take_along_axis(chosen, order, 1)


def uniform(draws: U64) -> NDArray[np.float64]:
    """Numbers in [0, 1) from random 64-bit words."""
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53
