import json

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from gpuday.data.tokenizer import TextTokenizer, train_tokenizer
from gpuday.export.parity import ParityError
from gpuday.export.tokenizer import check_tokenizer, special_tokens, write_tokenizer

WORDS = "the quick brown fox is out and it was raining a much longer text until somebody cuts off at last "


@pytest.fixture
def foreign():
    """A tokenizer.json of BERT's kind from elsewhere, with its own names, token types and truncation."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = {token: i for i, token in enumerate([*names, *dict.fromkeys(WORDS.split()), ".", ","])}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.add_special_tokens(names)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return TextTokenizer(tokenizer)


def test_byte_level_bpe_reads_the_same(tokenizer, tmp_path):
    """Texts and pairs, whole and cut, give the ids that evaluation uses."""
    write_tokenizer(tokenizer, tmp_path, length=48)
    check_tokenizer(tokenizer, tmp_path)


@pytest.mark.parametrize("model_type", ["modernbert", "bert"])
def test_wordpiece_reads_the_same_beside_any_model(model_type, tmp_path):
    """A config.json beside it does not make Transformers take that model's own tokenizer class."""
    texts = (f"{a} {b}" for a in WORDS.split() for b in WORDS.split())
    tokenizer, _ = train_tokenizer(texts, kind="wordpiece", normalizer="crammed", vocab=128)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    write_tokenizer(tokenizer, tmp_path, length=48)
    check_tokenizer(tokenizer, tmp_path)


def test_a_foreign_tokenizer_is_framed_as_evaluation_frames_it(foreign, tmp_path):
    """Its names of the special tokens stay, its token types go."""
    assert special_tokens(foreign)["mask_token"] == "[MASK]"
    write_tokenizer(foreign, tmp_path, length=48)
    check_tokenizer(foreign, tmp_path)


def test_a_difference_is_found(tokenizer, foreign, tmp_path):
    """The wrong tokenizer in a folder does not pass."""
    write_tokenizer(foreign, tmp_path, length=48)
    with pytest.raises(ParityError, match="the exported tokenizer gives"):
        check_tokenizer(tokenizer, tmp_path)


def test_rows_are_cut_where_training_cut_them(tokenizer, tmp_path):
    """The trained length is the tokenizer's own limit, and a batch is padded at its end."""
    write_tokenizer(tokenizer, tmp_path, length=12)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    batch = theirs(["the", "the quick brown fox jumps over the lazy dog again"], truncation=True, padding=True)
    assert [len(row) for row in batch["input_ids"]] == [12, 12]
    assert batch["attention_mask"][0] == [1, 1, 1, *[0] * 9]
    assert batch["input_ids"][0][3:] == [tokenizer.pad_id] * 9


def test_the_space_before_a_mask_is_part_of_the_masked_word(tokenizer, tmp_path):
    """`the <mask>` is the row that training saw: no lone space stands before the mask."""
    write_tokenizer(tokenizer, tmp_path, length=48)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    the = tokenizer.encode_batch(["the"])[0]
    expected = [tokenizer.cls_id, *the, tokenizer.mask_id, *the, tokenizer.sep_id]
    assert theirs("the <mask> the")["input_ids"] == expected
