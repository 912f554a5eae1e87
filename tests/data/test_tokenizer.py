import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from gpuday.core.errors import DataError
from gpuday.data.document import DropCounter
from gpuday.data.sources.synthetic import Synthetic
from gpuday.data.tokenizer import SPECIALS, TextTokenizer, adopt_tokenizer, train_tokenizer

TEXTS = [d.text for d in Synthetic(words=6000).documents(DropCounter())]
BPE = train_tokenizer(iter(TEXTS), kind="bpe", normalizer="light", vocab=512)[0]
WORDPIECE = train_tokenizer(iter(TEXTS), kind="wordpiece", normalizer="crammed", vocab=512)[0]
both = pytest.mark.parametrize("tokenizer", [BPE, WORDPIECE], ids=["bpe", "wordpiece"])


def foreign(path: Path, specials: tuple[str, ...], words: int = 70) -> Path:
    vocab = {name: i for i, name in enumerate([*specials, *(f"w{i}" for i in range(words))])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=specials[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in specials])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    tokenizer.save(str(path))
    return path


@both
def test_special_tokens_have_fixed_ids_and_the_vocabulary_its_size(tokenizer: TextTokenizer) -> None:
    """Ids 0 to 4 in one order, whatever the hash seed of the process; exactly the size that was asked for."""
    assert [tokenizer.tokenizer.token_to_id(name) for name in SPECIALS] == [0, 1, 2, 3, 4]
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    assert ids == (0, 1, 2, 3, 4)
    assert tokenizer.vocab_size == 512
    assert tokenizer.special_ids[:5] == (0, 1, 2, 3, 4)


def test_training_bpe_twice_gives_the_same_file() -> None:
    """Documents in another order, too: threads may count them in any."""
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    again = train_tokenizer(iter(shuffled), kind="bpe", normalizer="light", vocab=512)[0]
    assert again.fingerprint == BPE.fingerprint
    assert again.tokenizer.to_str() == BPE.tokenizer.to_str()


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=80))
def test_byte_level_bpe_gives_text_back(text: str) -> None:
    """Any text, up to what the light normaliser settles."""
    normal = BPE.tokenizer.normalizer.normalize_str(text).strip()
    assert BPE.decode(BPE.encode_batch([text])[0], skip_special_tokens=False).strip() == normal
    assert BPE.unk_id not in BPE.encode_batch([text])[0]


@both
def test_text_that_spells_a_special_token_stays_text(tokenizer: TextTokenizer) -> None:
    """A document about `<mask>` must not plant one in the training data."""
    for text in ("a <mask> b", "<pad><sep>", "x<cls>"):
        assert not set(tokenizer.encode_batch([text])[0]) & set(tokenizer.special_ids) - {tokenizer.unk_id}


@both
def test_a_tokenizer_survives_its_file(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    """Same ids, same fingerprint."""
    tokenizer.save(tmp_path / "tokenizer.json")
    again = TextTokenizer.load(tmp_path / "tokenizer.json")
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode_batch(TEXTS[:3]) == tokenizer.encode_batch(TEXTS[:3])
    assert again.normalizer == tokenizer.normalizer


@both
@pytest.mark.parametrize("pair", [True, False])
def test_pairs_are_built_and_cut_as_the_saved_file_does(tokenizer: TextTokenizer, pair: bool) -> None:
    """`encode_pair` equals what Hugging Face's tokenizers makes of tokenizer.json, at every length."""
    reference = Tokenizer.from_str(tokenizer.tokenizer.to_str())
    texts = [" ".join(TEXTS[0].split()[:n]) for n in (1, 4, 9, 20)]
    for a in texts:
        for b in texts if pair else [None]:
            for length in (*range(5, 40, 3), 200):
                reference.enable_truncation(length)
                assert tokenizer.encode_pair(a, b, length) == reference.encode(a, b).ids


def test_a_pair_without_room_for_text_is_refused() -> None:
    """Three special tokens fill three places."""
    with pytest.raises(ValueError, match="no room"):
        BPE.encode_pair("a", "b", 3)


def test_what_the_corpus_cannot_fill_is_unused() -> None:
    """The size is exact, and unused ids never come out of text."""
    tokenizer, unused = train_tokenizer(iter(TEXTS[:10]), kind="bpe", normalizer="light", vocab=1024)
    assert tokenizer.vocab_size == 1024
    assert unused > 0
    assert len(tokenizer.special_ids) == 5 + unused
    assert not set(tokenizer.encode_batch(["<unused0> <unused1>"])[0]) & set(tokenizer.special_ids)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_a_corpus_that_fills_next_to_nothing_is_refused(kind: str) -> None:
    """The fix names the option."""
    with pytest.raises(DataError, match="too small") as fault:
        train_tokenizer(iter(["word"]), kind=kind, normalizer="light", vocab=8192)  # type: ignore[arg-type]
    assert "--vocab" in fault.value.fix


def test_tokens_that_spell_a_text_are_found() -> None:
    """The full stop, with and without the space mark of its kind."""
    (stop,) = WORDPIECE.ids_of_text(".")
    assert WORDPIECE.encode_batch(["a b."])[0][-1] == stop
    assert BPE.encode_batch(["a b."])[0][-1] in BPE.ids_of_text(".")


@pytest.mark.parametrize(
    "specials", [SPECIALS, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), ("<pad>", "<unk>", "<s>", "</s>", "<mask>")]
)
def test_a_tokenizer_from_elsewhere_is_adopted(tmp_path: Path, specials: tuple[str, ...]) -> None:
    """The usual names of special tokens are known; its truncation and padding are switched off; 75 ids become 128."""
    tokenizer, added = adopt_tokenizer(foreign(tmp_path / "tokenizer.json", specials))
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (2, 3, 4)
    assert tokenizer.encode_batch(["w0 w1 w2 w3 w4 w5", "w9"]) == [[5, 6, 7, 8, 9, 10], [14]]
    assert (tokenizer.vocab_size, added) == (128, 53)


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    """The error names what is missing."""
    path = foreign(tmp_path / "tokenizer.json", ("<pad>", "<unk>", "<cls>", "<sep>"))
    with pytest.raises(DataError, match=r"<mask> or \[MASK\]"):
        TextTokenizer.load(path)


@pytest.mark.parametrize("pieces", [[], [0, 0]])
def test_a_template_without_the_text_once_is_refused(tmp_path: Path, pieces: list[int]) -> None:
    """Every text would be empty, or stand twice."""
    path = tmp_path / "tokenizer.json"
    WORDPIECE.save(path)
    value = json.loads(path.read_text())
    (text,) = [piece for piece in value["post_processor"]["single"] if "Sequence" in piece]
    value["post_processor"]["single"] = [text for _ in pieces]
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match="post_processor"):
        TextTokenizer.load(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff\xfe"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    """One sentence that names the file."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        TextTokenizer.load(path)
    with pytest.raises(DataError, match="missing"):
        TextTokenizer.load(tmp_path / "missing")


def test_what_goes_on_with_a_word_is_known_of_both_kinds() -> None:
    """By the mark of WordPiece; by the missing space of byte-level tokens, letters beyond ASCII included, punctuation not."""
    texts = ["the cats' catalogue, 10 caf\u00e9s \u2014 unbelievable"] * 40
    for kind in ("bpe", "wordpiece"):
        made, _ = train_tokenizer(iter(texts), kind=kind, normalizer="light", vocab=320)
        continuing = set(made.continuing_ids)
        ids = made.encode_batch(["caf\u00e9s, x9"])[0]
        spelled = [made.tokenizer.id_to_token(i) for i in ids]
        begins = ["##" not in t if kind == "wordpiece" else t[0] in "\u0120," for t in spelled]
        assert [i not in continuing for i in ids] == begins, spelled
        assert not continuing & set(made.special_ids)
