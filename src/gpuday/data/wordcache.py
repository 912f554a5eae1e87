"""Texts to ids by looking words up: a word that came before is not tokenized again.

Running text repeats its words, so that most of a tokenizer's work is done a second time. White space ends a token of
the tokenizers that are trained here, and so every word can be encoded by itself: the ids are those of
`TextTokenizer.encode_batch`, to the bit. Texts of other tokenizers are encoded whole.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count, islice

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer

from gpuday.data.tokenizer import TextTokenizer

MAX_WORDS = 1 << 18  # at about 250 bytes each
MAX_CHARACTERS = 8 << 20  # of long words, and of texts that are encoded whole
# White space for Python, but not for the normalisers.
_SEPARATORS = re.compile("[\x1c-\x1f]")
_SPACE = " "
_END = "\x1e"  # a token that is added to a copy of the tokenizer; of the separators above, so that no word holds it
_JOINED = 100
Ids = NDArray[np.int64]
_NONE: Ids = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Found:
    """A batch whose words have numbers."""

    begins: bool  # the numbers begin at 0 again
    new: list[str]  # in the order of their numbers
    numbers: Ids  # of all words of the batch
    ends: Ids  # where the words of each text end in them


class WordCache:
    """Encodes texts with one tokenizer. Memory is bounded: a full cache is emptied and fills again."""

    _numbers: defaultdict[str, int]
    _characters: int

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self._marked = TextTokenizer(Tokenizer.from_str(tokenizer.tokenizer.to_str()))
        self._marked.tokenizer.add_tokens([AddedToken(_END, special=False, normalized=False)])
        self._end_id = self._marked.tokenizer.token_to_id(_END)
        self._folds = tokenizer.normalizer == "crammed"
        self._deletes = self._folds and tokenizer.encode_batch([_SPACE]) != [[]]
        # The ids of word n are `_pool[_first[n] : _first[n] + _sizes[n]]`.
        self._pool, self._first, self._sizes = _NONE, _NONE, _NONE
        self._forget()

    def encode(self, batches: Iterable[Sequence[str]]) -> Iterator[tuple[Ids, Ids]]:
        """For each batch of texts: (ids [T] of all texts end to end, without special tokens; ids of each text [D]).

        The next batch is drawn, and its words are looked up, in a thread, while new words of this one are encoded.
        """
        rest = iter(batches)
        with ThreadPoolExecutor(1) as thread:
            ahead = thread.submit(self._look_up, rest)
            while (found := ahead.result()) is not None:
                ahead = thread.submit(self._look_up, rest)
                yield self._ids(found)

    def _look_up(self, batches: Iterator[Sequence[str]]) -> _Found | None:
        texts = next(batches, None)
        if texts is None:
            return None
        begins = len(self._numbers) > MAX_WORDS or self._characters > MAX_CHARACTERS
        if begins:
            self._forget()
        words = [self._words(text) for text in texts]
        ends = np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))
        total = int(ends[-1]) if len(ends) else 0
        known = len(self._numbers)
        numbers = np.fromiter(map(self._numbers.__getitem__, chain.from_iterable(words)), np.int64, total)
        new = list(islice(self._numbers, known, None))
        self._characters += sum(map(len, new))
        return _Found(begins, new, numbers, ends)

    def _ids(self, found: _Found) -> tuple[Ids, Ids]:
        if found.begins:
            self._pool, self._first, self._sizes = _NONE, _NONE, _NONE
        if found.new:
            ids, sizes = self._encode(found.new)
            self._first = np.concatenate([self._first, len(self._pool) + np.cumsum(sizes) - sizes])
            self._sizes = np.concatenate([self._sizes, sizes])
            self._pool = np.concatenate([self._pool, ids])
        sizes = self._sizes[found.numbers]
        after = np.cumsum(sizes)
        # Word w has `sizes[w]` ids at `first[w]` in the pool, and they go to `after[w] - sizes[w]`.
        shift = np.repeat(self._first[found.numbers] - (after - sizes), sizes)
        lengths = np.diff(np.concatenate([[0], after])[found.ends], prepend=0)
        return self._pool[shift + np.arange(len(shift))], lengths

    def _words(self, text: str) -> list[str]:
        """What of the text is encoded apart."""
        if not self.tokenizer.ends_tokens_at_spaces or _SEPARATORS.search(text):
            return [text]
        if self._folds:  # the normaliser will do it anyway, and so fewer words are new
            text = text.lower() if text.isascii() else text.encode().lower().decode()
        words = text.split()
        if text[-1:].isspace():
            words.append(_SPACE)  # byte-level BPE gives a last space an id
        elif self._deletes and words and not words[-1].isascii():
            return [text]  # if that word is deleted, the space before it is such a last space
        return words

    def _encode(self, words: list[str]) -> tuple[Ids, Ids]:
        """(ids end to end, number of ids of each). A call of `tokenizers` for every word takes twice as long as calls
        for many, joined by a token that is found again."""
        groups = [words[i : i + _JOINED] for i in range(0, len(words), _JOINED)]
        texts = [_END.join([*group, ""]) for group in groups]
        whole = not self.tokenizer.ends_tokens_at_spaces
        if whole or any(t.count(_END) > len(group) for t, group in zip(texts, groups, strict=True)):
            found = self.tokenizer.encode_batch(words)
            return np.fromiter(chain.from_iterable(found), np.int64), np.fromiter(map(len, found), np.int64)
        ids = np.fromiter(chain.from_iterable(self._marked.encode_batch(texts)), np.int64)
        is_end = ids == self._end_id
        return ids[~is_end], np.diff(np.flatnonzero(is_end), prepend=-1) - 1

    def _forget(self) -> None:
        self._numbers = defaultdict(count().__next__)  # a word gets the next one when it comes
        self._characters = 0
