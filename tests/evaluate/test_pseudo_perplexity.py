import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gpuday.core.errors import DataError, UsageError
from gpuday.data.document import Document, DropCounter
from gpuday.data.sources.files import Files
from gpuday.data.words import WordQuestion, write_words
from gpuday.evaluate import pseudo_perplexity
from gpuday.evaluate.pseudo_likelihood import TokenRows
from gpuday.evaluate.pseudo_perplexity import (
    drawn,
    interval_of,
    laid_out,
    perplexity_section,
    sample,
    text_tokenizer,
    units,
)
from gpuday.evaluate.subject import Subject, subject_of_run
from gpuday.evaluate.word_bits import answer
from gpuday.train.trained import Trained

LINE = "the quick brown zebra jumps over the lazy river while many people watch from the bridge"
TEXT = "\n\n".join(f"{LINE} {i} times, and a mango tree stands behind the yellow house" for i in range(12))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_uniform_model_has_the_vocabulary_for_its_perplexity(subject: Subject, trained: Trained, file: Path) -> None:
    """Its logits are all zero: exp(log V) = V, with no spread, and log2 V bits for each token of a word."""
    with torch.no_grad():
        trained.model.encoder.embedding.weight.zero_()  # tied to the decoder
    found = perplexity_section(subject, file)
    vocabulary = trained.tokenizer.vocab_size
    assert found["pseudo_perplexity"] == pytest.approx(vocabulary, rel=1e-5)
    assert [found["interval"][end] for end in ("low", "high")] == pytest.approx([vocabulary, vocabulary], rel=1e-5)
    expected = math.log2(vocabulary) * found["word_tokens"] / found["word_bytes"]
    assert found["word_bits_per_byte"] == pytest.approx(expected, rel=1e-5)
    assert (found["documents"], found["bytes"], found["bytes_read"]) == (12, len(TEXT) - 22, len(TEXT) - 22)
    assert json.loads(json.dumps(found)) == found


def test_the_words_are_those_of_the_held_out_question(trained: Trained, file: Path, tmp_path: Path) -> None:
    """Asked of the run's own model over the question as data preparation writes it, the bits are the same."""
    subject = subject_of_run(trained)
    documents = list(Files(path=str(file)).documents(DropCounter()))
    data = trained.recipe.data
    write_words(
        tmp_path / "words", documents, trained.tokenizer, length=data.length, cls=data.cls, sep=data.sep,
        drops=DropCounter(),
    )  # fmt: skip
    expected = answer(trained.model, WordQuestion.open(tmp_path / "words"), trained.device)
    found = perplexity_section(subject, file)
    assert found["text_fingerprint"] == expected["text_fingerprint"]
    assert found["word_bits_per_byte"] == pytest.approx(
        expected["word_bits_per_byte"], rel=1e-2
    )  # bf16 where it is fast


def test_perplexity_is_that_of_single_masks(trained: Trained, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token of the file masked alone in its row, by a plain loop."""
    subject = subject_of_run(trained)
    monkeypatch.setattr(pseudo_perplexity, "pick_predictor", lambda s: (s.predictor(), "float32"))
    tokenizer, length = trained.tokenizer, trained.recipe.data.length
    stream = [i for part in TEXT.split("\n\n") for i in (*tokenizer.encode_batch([part])[0], tokenizer.sep_id)]
    losses = []
    for start in range(0, len(stream), length):
        row = stream[start : start + length]
        for place, token in enumerate(row):
            if token != tokenizer.sep_id:
                masked = torch.tensor([[*row[:place], tokenizer.mask_id, *row[place + 1 :]]])
                with torch.no_grad():
                    losses.append(-float(trained.model(masked)[place].log_softmax(0)[token]))
    found = perplexity_section(subject, file)
    assert (found["tokens"], found["tokens_read"]) == (len(losses), len(losses))
    assert found["nats_per_token"] == pytest.approx(np.mean(losses), rel=1e-5)
    ends = found["interval"]
    assert (ends["method"], ends["n"], ends["confidence"]) == ("percentile, documents", 12, 0.95)
    assert ends["low"] < found["pseudo_perplexity"] < ends["high"]  # other documents, though no token was left out


def test_a_sample_of_tokens_bounds_the_work(subject: Subject, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more tokens than the bound allows as many are drawn, by the seed, and the interval says of how many documents."""
    monkeypatch.setattr(pseudo_perplexity, "WORK", 40 * subject.length)
    found = perplexity_section(subject, file)
    assert (found["tokens"], found["tokens"] < found["tokens_read"]) == (40, True)
    assert found["interval"]["low"] < found["pseudo_perplexity"] < found["interval"]["high"]
    tokenizer = text_tokenizer(subject)
    rows, _ = laid_out(subject, tokenizer, sample(file, 0, DropCounter())[1])
    first, same, other = (drawn(rows, subject.length, seed).tolist() for seed in (0, 0, 1))
    assert first == same != other
    assert set(rows.ids[first]).isdisjoint({tokenizer.cls_id, tokenizer.sep_id})


def test_rows_of_a_longer_model_are_cut(subject: Subject, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the bound on work is one, whatever length a model takes; the section says how long rows were."""
    monkeypatch.setattr(pseudo_perplexity, "LONGEST", 16)
    monkeypatch.setattr(pseudo_perplexity, "WORK", 160)
    assert subject.length > 16
    found = perplexity_section(subject, file)
    assert (found["tokens"], found["length"]) == (10, 16)
    rows, _ = laid_out(subject, text_tokenizer(subject), sample(file, 0, DropCounter())[1])
    assert np.diff(rows.starts).max() == 16


def test_a_long_file_is_sampled_in_pieces(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """About as many bytes as the bound, of whole words, the same for the same seed."""
    monkeypatch.setattr(pseudo_perplexity, "MOST_BYTES", 600)
    monkeypatch.setattr(pseudo_perplexity, "PIECE", 40)
    size, pieces = sample(file, 0, DropCounter())
    words = set(TEXT.split())
    assert size == len(TEXT) - 22
    assert 200 < sum(len(piece.text) for piece in pieces) < 1200
    assert all(set(piece.text.split()) <= words for piece in pieces)
    assert [piece.id for piece in pieces] == [piece.id for piece in sample(file, 0, DropCounter())[1]]
    assert [piece.id for piece in pieces] != [piece.id for piece in sample(file, 1, DropCounter())[1]]


def test_a_file_without_text_is_refused(subject: Subject, tmp_path: Path) -> None:
    """There is nothing to measure."""
    (tmp_path / "empty.txt").write_text("\n \n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no text"):
        perplexity_section(subject, tmp_path / "empty.txt")


def test_a_text_too_short_for_words_still_has_a_perplexity(subject: Subject, tmp_path: Path) -> None:
    """15% of few words may be none; that is no value, not a zero. Nor has it an interval, and says why."""
    (tmp_path / "short.txt").write_text("mango", encoding="utf-8")
    found = perplexity_section(subject, tmp_path / "short.txt")
    assert found["word_bits_per_byte"] is None
    assert found["pseudo_perplexity"] > 1
    assert found["interval"] is None and "fewer than 3 rows" in found["no_interval"]


@pytest.mark.parametrize(
    ("groups", "parts", "rows", "wanted"),
    [
        ("abcd", 4, 2, ("documents", 4)),
        ("aabb", 4, 8, ("pieces", 4)),
        ("ab", 2, 8, ("rows", 8)),
        ("a", 1, 2, None),
    ],
)
def test_the_largest_units_of_which_there_are_three_are_resampled(
    groups: str, parts: int, rows: int, wanted: tuple[str, int] | None
) -> None:
    """Documents, else the pieces that were read of them, else rows; of two rows nobody knows."""
    documents = [Document("x", f"{group}#{i}", "s", group) for i, group in enumerate(groups)]
    ids = np.arange(16)
    laid = TokenRows(ids, ids, np.arange(0, 17, 16 // rows))
    nats = np.random.default_rng(0).gamma(2.0, size=16)
    found = interval_of(nats, ids, units(documents, ids // (16 // parts), laid), 0)
    assert (found and (found.method, found.n)) == (wanted and (f"percentile, {wanted[0]}", wanted[1]))


def test_tokens_of_a_document_are_no_news_of_each_other() -> None:
    """Where all 100 tokens of a document are alike, the interval is that of a mean of 40 values, by a plain bootstrap with
    another generator: ten times as wide as one that takes the tokens for 4,000."""
    draws = np.random.default_rng(1)
    own = draws.normal(3.0, 0.5, size=40)
    owner = np.repeat(np.arange(40), 100)
    asked = np.arange(4000)
    found = interval_of(own[owner], asked, [("documents", owner)], 0)
    naive = interval_of(own[owner], asked, [("tokens", asked)], 0)
    means = own[draws.integers(40, size=(4000, 40))].mean(axis=1)
    assert found is not None and naive is not None
    expected = np.exp(np.quantile(means, [0.025, 0.975]))
    assert [found.low, found.high] == pytest.approx(expected.tolist(), rel=0.02)
    assert found.high - found.low > 7 * (naive.high - naive.low)


def test_a_subject_without_the_head_is_refused_first(subject: Subject, trained: Trained, tmp_path: Path) -> None:
    """Before the file is looked at."""
    trained.model.shifted = True
    with pytest.raises(UsageError, match="position before"):
        perplexity_section(subject_of_run(trained), tmp_path / "not_there.txt")
