"""Text of tasks to rows of tokens, with the special tokens around it that the encoder was trained to see.

A run's texts are framed as `<cls> A <sep> [B <sep>]`, and one that spells a special token is plain text; the texts of a
Hugging Face folder are read as its own fast tokenizer reads them, written special tokens included.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import Encoding, Tokenizer, processors

from gpuday.data.tokenizer import TextTokenizer

CHUNK = 1024  # rows in a call: what `tokenizers` makes of a row takes far more memory than its ids
ROOM = "{most} tokens have no room for text beside {specials} special ones"


@dataclass(frozen=True, slots=True)
class Tokens:
    """A row of L tokens. What is empty or None was not asked for, or is not what the encoder takes."""

    ids: list[int]
    types: list[int] | None = None
    """0 for the first text, 1 for the second, as the tokenizer has it; None for encoders without token types."""
    word_of: Sequence[int] = ()
    """Number of each token's word in its own text, as the tokenizer cuts words, or of the given words; -1 at special ones."""
    spans: Sequence[tuple[int, int]] = ()
    """First and one past last character of each token in its own text, white space left out; (0, 0) at special ones."""
    second: Sequence[bool] = ()
    """Whether each token belongs to the second text."""


@dataclass(frozen=True)
class Reader:
    """Rows from texts. The tokenizer is the reader's own: its truncation is set anew by each call."""

    tokenizer: Tokenizer
    """With the post-processor that adds special tokens."""
    pad_id: int
    mask_id: int
    special_ids: tuple[int, ...]
    """Ids that never stand for text; sorted."""
    typed: bool = False
    """Whether rows have token types."""
    side: str = "right"
    """Where a text that is too long is cut."""
    reserved: frozenset[int] = frozenset()
    """Ids that text may not have, though the tokenizer gives them; `unknown` stands for them."""
    unknown: int = 0

    def pairs(self, a: Sequence[str], b: Sequence[str] | None, most: int, *, located: bool = False) -> list[Tokens]:
        """Rows of texts, or of pairs of them, in at most `most` tokens: of a pair the longer is cut first.

        Where `located`, with words, spans and second. Raises ValueError where `most` leaves no room for text.
        """
        self._make_room(self.tokenizer, most, pair=b is not None, strategy="longest_first")
        texts: list[Any] = list(a) if b is None else list(zip(a, b, strict=True))
        encode = self.tokenizer.encode_batch if located else self.tokenizer.encode_batch_fast
        return [
            self._tokens(encoding, (text,) if b is None else text, located=located)
            for chunk in _chunks(texts)
            for text, encoding in zip(chunk, encode(chunk), strict=True)
        ]

    def words(self, rows: Sequence[Sequence[str]], most: int) -> list[Tokens]:
        """Rows of given words, each as if a space stood before it, with `word_of`; what is longer than `most` is cut."""
        self._make_room(self._spaced, most, pair=False, strategy="longest_first")
        return [
            Tokens(ids=self._ids(encoding), types=self._types(encoding), word_of=_words(encoding))
            for chunk in _chunks([list(row) for row in rows])
            for encoding in self._spaced.encode_batch(chunk, is_pretokenized=True)  # `_fast` keeps no words
        ]

    def windows(self, questions: Sequence[str], contexts: Sequence[str], most: int, stride: int) -> list[list[Tokens]]:
        """Rows of each question with a window of its context, located; consecutive windows share `stride` tokens.

        A question that leaves no window wider than the stride is cut. Raises ValueError where `most` has no room at all.
        """
        specials = self.tokenizer.num_special_tokens_to_add(is_pair=True)
        longest = most - specials - stride - 1
        if longest < 1 or stride < 0:
            raise ValueError(f"{ROOM.format(most=most, specials=specials)} and a stride of {stride}")
        fitting = [self._shortened(question, longest) for question in questions]
        self.tokenizer.enable_truncation(most, stride=stride, strategy="only_second", direction=self.side)
        return [
            [self._tokens(part, pair, located=True) for part in (encoding, *encoding.overflowing)]
            for chunk in _chunks(list(zip(fitting, contexts, strict=True)))
            for pair, encoding in zip(chunk, self.tokenizer.encode_batch(chunk), strict=True)
        ]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The normalised text of the ids."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)).strip()

    @cached_property
    def _spaced(self) -> Tokenizer:
        """The tokenizer for given words: one that puts no space before a text would read them as parts of one word."""
        state = json.loads(self.tokenizer.to_str())
        parts = state["pre_tokenizer"] or {}
        for part in parts.get("pretokenizers", [parts]):
            if part.get("type") == "ByteLevel":
                part["add_prefix_space"] = True
        spaced = Tokenizer.from_str(json.dumps(state))
        spaced.encode_special_tokens = self.tokenizer.encode_special_tokens  # no part of the file
        return spaced

    def _make_room(self, tokenizer: Tokenizer, most: int, *, pair: bool, strategy: str) -> None:
        specials = tokenizer.num_special_tokens_to_add(is_pair=pair)
        if most <= specials:
            raise ValueError(ROOM.format(most=most, specials=specials))
        tokenizer.enable_truncation(most, strategy=strategy, direction=self.side)

    def _shortened(self, text: str, most: int) -> str:
        """The text, or as much of its start as has at most so many tokens."""
        self.tokenizer.no_truncation()
        keep = most
        while len(encoding := self.tokenizer.encode(text, add_special_tokens=False)) > most:
            text = text[: encoding.offsets[keep - 1][1]]
            keep -= 1  # a text that ends elsewhere may be cut into more tokens
        return text

    def _tokens(self, encoding: Encoding, texts: Sequence[str], *, located: bool) -> Tokens:
        ids, types = self._ids(encoding), self._types(encoding)
        if not located:
            return Tokens(ids=ids, types=types)
        second = [number == 1 for number in encoding.sequence_ids]
        return Tokens(
            ids=ids,
            types=types,
            word_of=_words(encoding),
            spans=[_trimmed(texts[own], span) for own, span in zip(second, encoding.offsets, strict=True)],
            second=second,
        )

    def _ids(self, encoding: Encoding) -> list[int]:
        ids: list[int] = encoding.ids
        if self.reserved.isdisjoint(ids):
            return ids
        added = encoding.special_tokens_mask
        return [
            self.unknown if i in self.reserved and not special else i for i, special in zip(ids, added, strict=True)
        ]

    def _types(self, encoding: Encoding) -> list[int] | None:
        return encoding.type_ids if self.typed else None


def reader_of_run(tokenizer: TextTokenizer) -> Reader:
    """Rows with the ids of `TextTokenizer.encode_pairs`, to the bit."""
    own = Tokenizer.from_str(tokenizer.tokenizer.to_str())
    own.encode_special_tokens = True
    cls, sep = (str(own.id_to_token(i)) for i in (tokenizer.cls_id, tokenizer.sep_id))
    # A foreign file may frame its texts otherwise.
    own.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:0 {sep}:0",
        special_tokens=[(cls, tokenizer.cls_id), (sep, tokenizer.sep_id)],
    )
    framing = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id}
    return Reader(
        tokenizer=own,
        pad_id=tokenizer.pad_id,
        mask_id=tokenizer.mask_id,
        special_ids=tokenizer.special_ids,
        reserved=frozenset() if tokenizer.ends_tokens_at_spaces else frozenset(framing),
        unknown=tokenizer.unk_id,
    )


def reader_of_fast(tokenizer: Any, *, typed: bool) -> Reader:
    """Rows with the ids that a `transformers` fast tokenizer gives when it is called on them."""
    source: Tokenizer = tokenizer.backend_tokenizer
    own = Tokenizer.from_str(source.to_str())
    own.no_padding()
    own.encode_special_tokens = source.encode_special_tokens
    special = {i for i, token in own.get_added_tokens_decoder().items() if token.special}
    return Reader(
        tokenizer=own,
        pad_id=tokenizer.pad_token_id,
        mask_id=tokenizer.mask_token_id,
        special_ids=tuple(sorted(special | set(tokenizer.all_special_ids))),
        typed=typed,
        side=tokenizer.truncation_side,
    )


def _chunks(rows: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def _words(encoding: Encoding) -> list[int]:
    return [-1 if word is None else word for word in encoding.word_ids]


def _trimmed(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """The span without the white space at its ends, which byte-level tokens have before their word."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
