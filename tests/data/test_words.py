from pathlib import Path

import numpy as np
import pytest

from gpuday.core.errors import DataError
from gpuday.data.document import Document, DropCounter
from gpuday.data.sources.synthetic import Synthetic
from gpuday.data.tokenizer import TextTokenizer, train_tokenizer
from gpuday.data.words import WordQuestion, is_chosen, write_words

DOCUMENTS = list(Synthetic(words=4000).documents(DropCounter()))
SMALL, LARGE = (
    train_tokenizer(iter([d.text for d in DOCUMENTS]), kind="bpe", normalizer="light", vocab=vocab)[0]
    for vocab in (320, 512)
)


def ask(folder: Path, tokenizer: TextTokenizer, documents: list[Document], length: int = 32) -> WordQuestion:
    write_words(folder, documents, tokenizer, length=length, cls=False, sep=True, drops=DropCounter())
    return WordQuestion.open(folder)


def chosen_words(documents: list[Document]) -> list[str]:
    return [w for d in documents for i, w in enumerate(d.text.split()) if is_chosen(d.id, i)]


def test_the_chosen_words_are_masked_whole(tmp_path: Path) -> None:
    """The tokens under the masks, decoded, are the chosen words of the raw text and nothing else."""
    question = ask(tmp_path / "w", LARGE, DOCUMENTS)
    found = LARGE.decode(question.labels[question.is_target].tolist())
    assert found.split() == chosen_words(DOCUMENTS)
    assert (question.ids[question.is_target] == LARGE.mask_id).all()
    assert (question.ids[~question.is_target] == question.labels[~question.is_target]).all()


def test_about_fifteen_percent_of_words_are_chosen() -> None:
    """Within 3 sigma."""
    total = sum(len(d.text.split()) for d in DOCUMENTS)
    assert abs(len(chosen_words(DOCUMENTS)) - 0.15 * total) < 3 * np.sqrt(0.15 * 0.85 * total)


def test_every_tokenizer_is_asked_for_the_same_bytes(tmp_path: Path) -> None:
    """Two vocabularies: other rows and tokens, the same words."""
    small, large = ask(tmp_path / "a", SMALL, DOCUMENTS), ask(tmp_path / "b", LARGE, DOCUMENTS)
    assert small.is_target.sum() > large.is_target.sum()
    assert small.total_bytes == large.total_bytes == sum(len(w.encode()) for w in chosen_words(DOCUMENTS))
    assert small.text_fingerprint == large.text_fingerprint
    assert small.normalizer == large.normalizer == "light"
    assert small.vocabulary != large.vocabulary


def test_tokens_are_those_of_the_running_text(tmp_path: Path) -> None:
    """Encoding words one by one gives the tokens of the whole document, each document followed by <sep>."""
    question = ask(tmp_path / "w", LARGE, DOCUMENTS[:3], length=2000)
    expected = [i for d in DOCUMENTS[:3] for i in [*LARGE.encode_batch([d.text])[0], LARGE.sep_id]]
    assert question.labels[0, : len(expected)].tolist() == expected
    assert (question.labels[0, len(expected) :] == LARGE.pad_id).all()
    assert not question.is_target[:, len(expected) :].any()


def test_sources_do_not_share_rows(tmp_path: Path) -> None:
    """Bytes by row and source add up to those of each source's words."""
    parts = [Document(d.text, d.id, "ab"[i % 2], d.group) for i, d in enumerate(DOCUMENTS)]
    parts.sort(key=lambda d: d.source)
    question = ask(tmp_path / "w", LARGE, parts)
    for number, label in enumerate(question.sources):
        expected = sum(len(w.encode()) for w in chosen_words([d for d in parts if d.source == label]))
        assert question.row_bytes[question.row_source == number].sum() == expected


def test_a_word_that_does_not_fit_is_skipped_and_counted(tmp_path: Path) -> None:
    """Its bytes are not counted, since its bits never will be."""
    name = next(f"d{i}" for i in range(100) if is_chosen(f"d{i}", 1) and is_chosen(f"d{i}", 2))
    question = ask(tmp_path / "w", LARGE, [Document("short " + "xq" * 50 + " word", name, "s", name)], length=16)
    assert question.skipped["longer than a row"] == 1
    assert question.total_bytes == len("word") + (len("short") if is_chosen(name, 0) else 0)


def test_composed_and_decomposed_letters_are_the_same_word(tmp_path: Path) -> None:
    """The raw text is brought to NFC before bytes are counted."""
    name = next(f"d{i}" for i in range(100) if is_chosen(f"d{i}", 0))
    assert ask(tmp_path / "a", LARGE, [Document("cafe\u0301", name, "s", name)]).total_bytes == 5


def test_a_damaged_question_is_refused(tmp_path: Path) -> None:
    """The error names the file."""
    ask(tmp_path / "w", LARGE, DOCUMENTS[:5])
    path = tmp_path / "w" / "labels.bin"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"labels\.bin"):
        WordQuestion.open(tmp_path / "w")
    with pytest.raises(DataError, match="nowhere"):
        WordQuestion.open(tmp_path / "nowhere")
