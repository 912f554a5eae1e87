"""Tokenizers: trained on the corpus, or read from a tokenizer.json; always saved so that Hugging Face loads them.

Byte-level BPE is the default: its training gives the same file in every run. WordPiece training of `tokenizers` 0.23
does not (huggingface/tokenizers#1794), so it is trained once, stored and fingerprinted.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import xxhash
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from gpuday.core.errors import DataError, GpudayError
from gpuday.core.rundir import write_atomic
from gpuday.data.normalize import Normalizer, build_normalizer, normalizer_name

T = TypeVar("T")
SPECIALS = ("<pad>", "<unk>", "<cls>", "<sep>", "<mask>")  # ids 0 to 4, in this order
_EQUIVALENTS = {
    "<pad>": ("<pad>", "[PAD]"),
    "<unk>": ("<unk>", "[UNK]"),
    "<cls>": ("<cls>", "[CLS]", "<s>"),
    "<sep>": ("<sep>", "[SEP]", "</s>"),
    "<mask>": ("<mask>", "[MASK]"),
}
ADD_SPECIALS = (
    'add them with Tokenizer.add_special_tokens(["[PAD]", ...]) of the library tokenizers and save it, or leave --tokenizer'
    " out: one is trained on the corpus"
)
_MULTIPLE = 64  # matrix products over the vocabulary are fast at multiples of this
_MIN_LEARNED_SHARE = 1 / 32
_MIN_FREQUENCY = 2
_BATCH = 256
_BATCH_CHARACTERS = 1 << 20
_MAX_WORD = 256  # characters of a word that a tokenizer is trained on; its time grows with their number squared
_MAX_FILE_BYTES = 256 << 20
_MAX_VOCAB = 1 << 22
_LONG_WORD = re.compile(rf"\S{{{_MAX_WORD}}}")
_PROBES = ("The first word.", " two  spaces\n", "\u00e9\u4e2d\U0001f600\ufdfa", "a\u0301" * 20, "x" * 200, "")


@dataclass(frozen=True)
class TextTokenizer:
    """Text to ids and back. Text that spells a special token is read as plain text."""

    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        # Settings of a foreign file: they would cut documents short and pad them.
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True

    @classmethod
    def load(cls, path: Path) -> "TextTokenizer":
        """Read a tokenizer.json. Raises DataError for one that cannot be read or lacks a special token."""
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise DataError(f"{path} is too large for a tokenizer", fix="give a tokenizer.json")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {path}: {error}", fix="give the path of a tokenizer.json") from error
        tokenizer = _guarded(path, lambda: Tokenizer.from_str(text))
        missing = [name for name in SPECIALS if _special(tokenizer, name) is None]
        if missing:
            wanted = ", ".join(" or ".join(_EQUIVALENTS[name]) for name in missing)
            raise DataError(f"{path} lacks special tokens", where=wanted, fix=ADD_SPECIALS)
        return _guarded(path, lambda: cls._tried(tokenizer, path))

    @classmethod
    def _tried(cls, tokenizer: Tokenizer, path: Path) -> "TextTokenizer":
        """The tokenizer, after it was asked for everything that is used of it."""
        ids = tokenizer.get_vocab(with_added_tokens=True).values()
        if max(ids) >= _MAX_VOCAB or max(ids) >= 64 * len(ids):
            raise DataError(
                f"{path} has ids up to {max(ids):,} for {len(ids):,} tokens", fix="number the tokens without gaps"
            )
        found = cls(tokenizer)
        specials = [found.pad_id, found.unk_id, found.cls_id, found.sep_id, found.mask_id]
        if len(set(specials)) < len(specials):
            raise DataError(f"{path} has one id for several special tokens", fix="give each of them its own")
        bare = cls(Tokenizer.from_str(json.dumps({**json.loads(found._json), "post_processor": None})))
        if bare.encode_batch(_PROBES) != found.encode_batch(_PROBES):
            raise DataError(
                f"the post_processor of {path} leaves out or repeats the text itself",
                fix="let its template for a single text hold the text once, as in <cls> $A <sep>",
            )
        for ids_of_text in found.encode_batch(_PROBES):
            found.decode(ids_of_text)
            if any(i > max(ids) for i in ids_of_text):
                raise DataError(f"{path} gives ids that it does not name", fix="save it with tokenizers again")
        return cls(Tokenizer.from_str(found._json))  # what is saved can be read again

    def save(self, path: Path) -> None:
        """Write tokenizer.json."""
        write_atomic(path, self._json.encode())

    @cached_property
    def _json(self) -> str:
        return str(self.tokenizer.to_str())

    @cached_property
    def fingerprint(self) -> str:
        """xxh3-128 of the tokenizer's canonical JSON."""
        canonical = json.dumps(json.loads(self._json), sort_keys=True, separators=(",", ":"))
        return xxhash.xxh3_128_hexdigest(canonical.encode())

    @cached_property
    def vocab_size(self) -> int:
        """Number of ids, special and unused ones included."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def normalizer(self) -> str:
        """`crammed`, `light`, or `other-` and a hash."""
        return normalizer_name(self.tokenizer)

    @cached_property
    def ends_tokens_at_spaces(self) -> bool:
        """Whether the ids of a text are those of its words one after the other: so with what `train_tokenizer` makes."""
        states = [part.__getstate__() for part in (_byte_level(), pre_tokenizers.Whitespace())]
        added = self.tokenizer.get_added_tokens_decoder().values()
        return (
            not self.normalizer.startswith("other")
            and self.tokenizer.pre_tokenizer.__getstate__() in states
            and all(token.special for token in added)  # others are looked for in the whole text
        )

    @cached_property
    def pad_id(self) -> int:
        return self._id("<pad>")

    @cached_property
    def unk_id(self) -> int:
        return self._id("<unk>")

    @cached_property
    def cls_id(self) -> int:
        return self._id("<cls>")

    @cached_property
    def sep_id(self) -> int:
        return self._id("<sep>")

    @cached_property
    def mask_id(self) -> int:
        return self._id("<mask>")

    @cached_property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that never stand for text, unused ones included; sorted."""
        return tuple(sorted(i for i, t in self.tokenizer.get_added_tokens_decoder().items() if t.special))

    @cached_property
    def continuing_ids(self) -> tuple[int, ...]:
        """Ids of tokens that go on with the word of the token before them; sorted. Punctuation begins a word of its own.

        WordPiece marks them by `##`; elsewhere they are those of letters and digits that no mark of a space leads.
        """
        vocabulary = self.tokenizer.get_vocab(with_added_tokens=True)
        marked, bytewise = isinstance(self.tokenizer.model, models.WordPiece), "Ġ" in vocabulary
        found = (i for token, i in vocabulary.items() if _continues(token, marked=marked, bytewise=bytewise))
        return tuple(sorted(set(found) - set(self.special_ids)))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text without special tokens; runs on all threads."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        if self.ends_tokens_at_spaces:  # and between letters and punctuation, which every special token has
            return [encoding.ids for encoding in encodings]
        reserved, unknown = {self.pad_id, self.cls_id, self.sep_id, self.mask_id}, self.unk_id
        return [
            ids if reserved.isdisjoint(ids) else [unknown if i in reserved else i for i in ids]
            for ids in (encoding.ids for encoding in encodings)
        ]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The normalised text of the ids."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)).strip()

    def encode_pair(self, a: str, b: str | None, max_length: int) -> list[int]:
        """`<cls> A <sep>`, or `<cls> A <sep> B <sep>`, in at most `max_length` ids; the longer text is cut first."""
        return self.encode_pairs([a], None if b is None else [b], max_length)[0]

    def encode_pairs(self, a: Sequence[str], b: Sequence[str] | None, max_length: int) -> list[list[int]]:
        """`encode_pair` of many; `b` is None where the task has one text."""
        room = max_length - (2 if b is None else 3)
        if room < 1:
            raise ValueError(f"max_length {max_length} has no room for text")
        cls, sep = [self.cls_id], [self.sep_id]
        left = self.encode_batch(a)
        if b is None:
            return [cls + x[:room] + sep for x in left]
        rows = []
        for x, y in zip(left, self.encode_batch(b), strict=True):
            keep_x, keep_y = _longest_first(len(x), len(y), room)
            rows.append(cls + x[:keep_x] + sep + y[:keep_y] + sep)
        return rows

    def ids_of_text(self, text: str) -> list[int]:
        """Ids of all tokens that spell exactly `text`, with or without a space before it; sorted."""
        variants = {text, f"Ġ{text}", f"▁{text}", f"##{text}"}
        found = (self.tokenizer.token_to_id(variant) for variant in variants)
        return sorted(i for i in found if i is not None)

    def _id(self, name: str) -> int:
        found = _special(self.tokenizer, name)
        assert found is not None  # `load` and `train_tokenizer` both make sure
        return found


def train_tokenizer(
    texts: Iterator[str], *, kind: Literal["bpe", "wordpiece"], normalizer: Normalizer, vocab: int
) -> tuple[TextTokenizer, int]:
    """(tokenizer of exactly `vocab` ids, how many of them are unused) trained on the texts, which are streamed.

    Unused ids `<unused0>`.. fill up what the corpus cannot. Raises DataError for a corpus that fills next to nothing.
    """
    tokenizer = Tokenizer(models.BPE() if kind == "bpe" else models.WordPiece(unk_token=SPECIALS[1]))
    tokenizer.normalizer = build_normalizer(normalizer)
    options: dict[str, Any] = {"vocab_size": vocab, "min_frequency": _MIN_FREQUENCY, "show_progress": False}
    options["special_tokens"] = list(SPECIALS)
    if kind == "bpe":
        tokenizer.pre_tokenizer = _byte_level()
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer: Any = trainers.BpeTrainer(**options, initial_alphabet=alphabet)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.decoder = decoders.WordPiece(prefix="##")
        trainer = trainers.WordPieceTrainer(**options)
    before = len(SPECIALS) + (256 if kind == "bpe" else 0)
    if vocab < before + 1:
        raise DataError(f"a vocabulary of {vocab} has no room for words", fix=f"give more than {before}")
    tokenizer.train_from_iterator(_batches(texts), trainer)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size - before < _MIN_LEARNED_SHARE * (vocab - before):
        raise DataError(
            f"the corpus is too small: it fills {size:,} of {vocab:,} vocabulary entries",
            fix="give more text, or a smaller --vocab",
        )
    _fill(tokenizer, vocab - size)
    tokenizer.post_processor = _template(tokenizer)
    return TextTokenizer(tokenizer), vocab - size


def adopt_tokenizer(path: Path) -> tuple[TextTokenizer, int]:
    """(tokenizer of a file with its vocabulary filled up to a multiple of 64, ids added for that)."""
    loaded = TextTokenizer.load(path)
    missing = -loaded.vocab_size % _MULTIPLE
    _guarded(path, lambda: _fill(loaded.tokenizer, missing))
    return TextTokenizer(loaded.tokenizer), missing


def _byte_level() -> pre_tokenizers.ByteLevel:
    """With a space before the first word, a word has the same id at the start of a text and inside it."""
    return pre_tokenizers.ByteLevel(add_prefix_space=True)


def _fill(tokenizer: Tokenizer, count: int) -> None:
    names = (f"<unused{i}>" for i in range(tokenizer.get_vocab_size() + count))
    unused = [name for name in names if tokenizer.token_to_id(name) is None][:count]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in unused])


def _template(tokenizer: Tokenizer) -> processors.TemplateProcessing:
    """Both texts have type 0: models here have no type embedding."""
    return processors.TemplateProcessing(
        single="<cls> $A <sep>",
        pair="<cls> $A <sep> $B:0 <sep>:0",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<cls>", "<sep>")],
    )


def _special(tokenizer: Tokenizer, name: str) -> int | None:
    found = (tokenizer.token_to_id(candidate) for candidate in _EQUIVALENTS[name])
    return next((i for i in found if i is not None), None)


def _continues(token: str, *, marked: bool, bytewise: bool) -> bool:
    """Whether a token stands inside a word. `bytewise`: its characters stand for bytes, those of letters beyond ASCII for
    0x80 and above, which are all but ASCII's own and the 34 characters from U+0100 on."""
    if marked:
        return token.startswith("##")
    first = token[:1]
    if bytewise and first and not first.isascii():
        return not 0x100 <= ord(first) < 0x122
    return first.isalnum()


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch, characters = list[str](), 0
    for text in texts:
        batch.append(_short_words(text))
        characters += len(text)
        if len(batch) == _BATCH or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _short_words(text: str) -> str:
    """The text with a space after every 256 characters of a word that is longer: such as encoded pictures are."""
    if max(map(len, text.split()), default=0) <= _MAX_WORD:
        return text
    return _LONG_WORD.sub(r"\g<0> ", text)


_JSON_WANTED = "give the tokenizer.json of the library tokenizers (a vocab.txt is not enough), or bpe or wordpiece"


def _guarded(path: Path, use: Callable[[], T]) -> T:
    """What `use` returns; a DataError naming the file for everything that the library makes of a malformed one.

    Its panics are no subclass of Exception.
    """
    try:
        return use()
    except GpudayError:
        raise
    except Exception as error:
        raise DataError(f"{path} is not a tokenizer.json: {error}", fix=_JSON_WANTED) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{path} is not a tokenizer.json: {error}", fix=_JSON_WANTED) from error


def _longest_first(a: int, b: int, room: int) -> tuple[int, int]:
    """How much to keep of two texts of a and b tokens: the rule of `tokenizers`, so that exports truncate alike."""
    if a + b <= room:
        return a, b
    short, long = min(a, b), max(a, b)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return (short, long) if a <= b else (long, short)
