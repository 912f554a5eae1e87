import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from gpuday.data.tokenizer import TextTokenizer, train_tokenizer
from gpuday.evaluate.reading import Reader, reader_of_fast, reader_of_run
from tiny_models import make_tokenizer

KINDS = ("wordpiece", "bytes")
PIECES = st.sampled_from(
    [
        "the ",
        "zebra",
        "jumps",
        " over",
        "river",
        "it's",
        "<mask>",
        "[MASK]",
        "[SEP]",
        "</s>",
        "<sep>",
        " ",
        "\n",
        "é",
        "東",
        "x",
    ]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join)
ROWS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3)
LINES = ["the quick zebra jumps over the lazy river", "it is a mango tree, and it's standing behind the house"]


def foreign() -> TextTokenizer:
    """One that looks for its added tokens in the whole text, and may make special ids of it."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "zebra": 2, "[MASK]": 3, "[": 4}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.add_tokens([AddedToken("river")])
    return TextTokenizer(tokenizer)


RUNS = {
    "bpe": train_tokenizer(iter(LINES * 20), kind="bpe", normalizer="light", vocab=300)[0],
    "wordpiece": train_tokenizer(iter(LINES * 20), kind="wordpiece", normalizer="crammed", vocab=64)[0],
    "foreign": foreign(),
}
RUN_READERS = {name: reader_of_run(tokenizer) for name, tokenizer in RUNS.items()}
FAST = {kind: make_tokenizer(kind) for kind in KINDS}
FAST_READERS = {kind: reader_of_fast(FAST[kind], typed=kind == "wordpiece") for kind in KINDS}


@given(kind=st.sampled_from(sorted(RUNS)), rows=ROWS, most=st.integers(4, 24), pair=st.booleans())
def test_rows_of_a_run_have_the_ids_of_its_tokenizer(kind: str, rows: Any, most: int, pair: bool) -> None:
    """Alone or in pairs, cut or whole, with text that spells special tokens: `encode_pairs`, to the bit, and no types."""
    a, b = [row[0] for row in rows], [row[1] for row in rows] if pair else None
    found = RUN_READERS[kind].pairs(a, b, most)
    assert [tokens.ids for tokens in found] == RUNS[kind].encode_pairs(a, b, most)
    assert {tokens.types for tokens in found} == {None}
    assert [t.ids for t in RUN_READERS[kind].pairs(a, b, most, located=True)] == [t.ids for t in found]


@given(kind=st.sampled_from(KINDS), rows=ROWS, most=st.integers(5, 24), pair=st.booleans())
def test_rows_of_a_folder_are_those_of_its_tokenizer_s_call(kind: str, rows: Any, most: int, pair: bool) -> None:
    """Ids, token types, words and texts are what Transformers gives; spans too, but for white space at their ends."""
    a, b = [row[0] for row in rows], [row[1] for row in rows] if pair else None
    theirs = FAST[kind](a, b, truncation="longest_first", max_length=most, return_offsets_mapping=True)
    for i, tokens in enumerate(FAST_READERS[kind].pairs(a, b, most, located=True)):
        assert tokens.ids == theirs["input_ids"][i]
        assert tokens.types == (theirs["token_type_ids"][i] if kind == "wordpiece" else None)
        assert list(tokens.word_of) == [-1 if word is None else word for word in theirs.word_ids(i)]
        assert list(tokens.second) == [text == 1 for text in theirs.sequence_ids(i)]
        for own, (start, end), (first, last) in zip(
            tokens.second, tokens.spans, theirs["offset_mapping"][i], strict=True
        ):
            assert rows[i][own][start:end] == rows[i][own][first:last].strip()


@given(
    kind=st.sampled_from(KINDS),
    rows=st.lists(st.lists(st.sampled_from(LINES[0].split()), max_size=9), min_size=1, max_size=3),
)
def test_given_words_are_read_as_transformers_reads_them(kind: str, rows: list[list[str]]) -> None:
    """`is_split_into_words`, of a byte-level tokenizer as it is loaded with add_prefix_space."""
    asked = FAST[kind] if kind == "wordpiece" else _spaced_bytes()
    theirs = asked(rows, is_split_into_words=True, truncation=True, max_length=16)
    for i, tokens in enumerate(FAST_READERS[kind].words(rows, 16)):
        assert tokens.ids == theirs["input_ids"][i]
        assert list(tokens.word_of) == [-1 if word is None else word for word in theirs.word_ids(i)]


def test_words_of_a_run_are_those_of_its_text() -> None:
    """Words that are given have the ids that the text has in which they stand, and every token knows its word."""
    reader = RUN_READERS["bpe"]
    (tokens,) = reader.words([LINES[0].split()], 64)
    assert tokens.ids == reader.pairs([LINES[0]], None, 64)[0].ids
    spelled = [
        reader.decode([i for i, word in zip(tokens.ids, tokens.word_of, strict=True) if word == w]) for w in range(8)
    ]
    assert spelled == LINES[0].split()


@given(kind=st.sampled_from(KINDS), rows=ROWS, most=st.integers(12, 24), stride=st.integers(0, 4))
def test_windows_are_those_of_the_usual_preparation(kind: str, rows: Any, most: int, stride: int) -> None:
    """As Transformers cuts contexts with an overlap, where the question leaves room for windows."""
    questions, contexts = ["is it"] * len(rows), [a + " " + b for a, b in rows]
    theirs = FAST[kind](
        questions,
        contexts,
        truncation="only_second",
        max_length=most + 4,
        stride=stride,
        return_overflowing_tokens=True,
    )
    found = FAST_READERS[kind].windows(questions, contexts, most + 4, stride)
    assert [tokens.ids for windows in found for tokens in windows] == theirs["input_ids"]
    assert [i for i, windows in enumerate(found) for _ in windows] == theirs["overflow_to_sample_mapping"]


@pytest.mark.parametrize("reader", [*RUN_READERS.values(), *FAST_READERS.values()])
def test_windows_show_every_character_of_the_context(reader: Reader) -> None:
    """A question longer than a row is cut, and all of the context's words stand in some window, at their own place."""
    context = " ".join(LINES * 2)
    (windows,) = reader.windows(["the zebra " * 40], [context], 24, 4)
    shown = {
        c
        for w in windows
        for own, (start, end) in zip(w.second, w.spans, strict=True)
        if own
        for c in range(start, end)
    }
    assert shown == {i for i, c in enumerate(context) if not c.isspace()}
    assert max(len(w.ids) for w in windows) <= 24


@pytest.mark.parametrize("reader", [RUN_READERS["bpe"], FAST_READERS["bytes"]])
def test_no_room_for_text_is_an_error(reader: Reader) -> None:
    """Rows as long as their special tokens, and strides as wide as a window."""
    with pytest.raises(ValueError, match="no room"):
        reader.pairs(["a"], ["b"], 3)
    with pytest.raises(ValueError, match="no room"):
        reader.words([["a"]], 2)
    with pytest.raises(ValueError, match="no room"):
        reader.windows(["a"], ["b"], 8, 6)


def test_a_tokenizer_that_cuts_the_left_end_does_so_here() -> None:
    """The side is the tokenizer's own."""
    fast = make_tokenizer("wordpiece", truncation_side="left")
    reader = reader_of_fast(fast, typed=False)
    assert reader.pairs([LINES[0]], None, 6)[0].ids == fast(LINES[0], truncation=True, max_length=6)["input_ids"]
    assert reader.pairs([LINES[0]], None, 6) != dataclasses.replace(reader, side="right").pairs([LINES[0]], None, 6)


def test_no_rows_are_no_rows() -> None:
    """An empty split asks nothing of the library."""
    reader = RUN_READERS["bpe"]
    assert (reader.pairs([], None, 8), reader.words([], 8), reader.windows([], [], 16, 2)) == ([], [], [])


def test_special_ids_are_the_tokenizer_s_own() -> None:
    """Padding, mask and what else is no text."""
    fast, reader = FAST["bytes"], FAST_READERS["bytes"]
    assert (reader.pad_id, reader.mask_id) == (fast.pad_token_id, fast.mask_token_id)
    assert reader.special_ids == tuple(sorted(fast.all_special_ids))
    assert RUN_READERS["bpe"].special_ids == RUNS["bpe"].special_ids


def _spaced_bytes() -> Any:
    """The byte-level tokenizer with a space before every text, as add_prefix_space makes it."""
    fast = make_tokenizer("bytes")
    fast.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return fast
