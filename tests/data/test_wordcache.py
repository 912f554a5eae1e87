import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from gpuday.data import wordcache
from gpuday.data.document import DropCounter
from gpuday.data.sources.synthetic import Synthetic
from gpuday.data.tokenizer import SPECIALS, TextTokenizer, train_tokenizer
from gpuday.data.wordcache import WordCache

TEXTS = [d.text for d in Synthetic(words=6000).documents(DropCounter())]
SEEN = [*TEXTS, *["it's a café, won't `x` 12.5 ``quoted'' — 中文"] * 3]
TOKENIZERS = {
    f"{kind} {normalizer}": train_tokenizer(iter(SEEN), kind=kind, normalizer=normalizer, vocab=512)[0]  # type: ignore[arg-type]
    for kind in ("bpe", "wordpiece")
    for normalizer in ("light", "crammed")
}
every = pytest.mark.parametrize("name", list(TOKENIZERS))
AWKWARD = [
    *(" ", "  ", "\n", "\t", "\x85", "\u00a0", "\u2028", "\u3000", "\u180e", "\u200b", "\x00", "\x1c", "\x1e", "\x1f"),
    *(
        "a",
        "word",
        "'s",
        "''",
        "``",
        "1",
        ".",
        "e\u0301",
        "\u0301",
        "☃",
        "中",
        "İ",
        "<mask>",
        "<unused0>",
        "\U0001d165",
    ),
]


def split(cache: WordCache, texts: list[str]) -> list[list[int]]:
    """The ids of each text, taken apart again."""
    ((ids, lengths),) = cache.encode([texts])
    rest, parts = ids.tolist(), []
    for length in lengths.tolist():
        parts.append(rest[:length])
        rest = rest[length:]
    assert rest == []
    return parts


@every
def test_ids_are_those_of_the_tokenizer(name: str) -> None:
    """Cold, warm, in one call or in many, and for no text at all."""
    tokenizer, cache = TOKENIZERS[name], WordCache(TOKENIZERS[name])
    expected = tokenizer.encode_batch(TEXTS)
    assert split(cache, TEXTS) == expected
    assert [ids.tolist() for ids, _ in cache.encode([text] for text in TEXTS)] == expected
    assert split(cache, []) == []


@every
@given(texts=st.lists(st.lists(st.sampled_from(AWKWARD), max_size=7).map("".join), max_size=6))
def test_awkward_texts_have_the_ids_of_the_tokenizer(name: str, texts: list[str]) -> None:
    """White space of every kind at every place, words that the normaliser deletes, marks, text like special tokens."""
    assert split(WordCache(TOKENIZERS[name]), texts) == TOKENIZERS[name].encode_batch(texts)


@every
def test_no_character_is_white_space_for_one_side_only(name: str) -> None:
    """Every separator, control character and format character there is, inside, before and after words."""
    odd = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Cc", "Cf", "Zs", "Zl", "Zp")]
    assert len(odd) > 200
    texts = [pattern.replace("?", c) for c in odd for pattern in ("a?b", "a ? b", "?a b", "a b?", "?", "a ?")]
    assert split(WordCache(TOKENIZERS[name]), texts) == TOKENIZERS[name].encode_batch(texts)


def test_a_full_cache_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids stay what they were, and no more words are held than those of the last texts and the limit."""
    monkeypatch.setattr(wordcache, "MAX_WORDS", 50)
    tokenizer = TOKENIZERS["bpe light"]
    cache = WordCache(tokenizer)
    most = max(len(set(text.split())) for text in TEXTS)
    for text, (ids, _) in zip(TEXTS, cache.encode([text] for text in TEXTS), strict=True):
        assert ids.tolist() == tokenizer.encode_batch([text])[0]
        assert len(cache._numbers) <= 50 + most


def test_a_tokenizer_from_elsewhere_gets_whole_texts(tmp_path: Path) -> None:
    """This one has tokens with spaces inside: its words do not stand alone."""
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate([*SPECIALS, "a b", "a", "b"])}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(",", "removed")
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIALS])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    foreign = TextTokenizer.load(tmp_path / "tokenizer.json")
    assert split(WordCache(foreign), ["a b,a", "b", "a b"]) == [[5, 6], [7], [5]]


def test_an_added_token_is_found_across_spaces() -> None:
    """A token that somebody added to a tokenizer of ours, and that holds a space, is found as ever."""
    tokenizer = Tokenizer.from_str(TOKENIZERS["bpe light"].tokenizer.to_str())
    tokenizer.add_tokens([AddedToken("New York", special=False)])
    wrapped = TextTokenizer(tokenizer)
    assert split(WordCache(wrapped), ["in New York now"]) == wrapped.encode_batch(["in New York now"])
    assert wrapped.vocab_size - 1 in wrapped.encode_batch(["in New York now"])[0]
