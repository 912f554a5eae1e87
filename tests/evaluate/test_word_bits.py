import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gpuday.core.errors import DataError
from gpuday.data.tokenizer import train_tokenizer
from gpuday.data.words import WordQuestion
from gpuday.evaluate.word_bits import answer, comparable, row_bits, word_bits
from gpuday.train.trained import Trained


def test_a_uniform_model_pays_log2_of_the_vocabulary_for_every_token(held_out: Trained) -> None:
    """The total is log2(V) * tokens / bytes, overall and in each source."""
    with torch.no_grad():
        held_out.model.encoder.embedding.weight.zero_()  # tied: all logits are 0
    question = WordQuestion.open(held_out.run.data / "heldout.words")
    bits = math.log2(held_out.tokenizer.vocab_size)
    found = word_bits(held_out)
    expected = bits * question.is_target.sum() / question.row_bytes.sum()
    assert found["word_bits_per_byte"] == pytest.approx(expected, rel=1e-6)
    assert set(found["word_bits_per_byte_by_source"]) == {"a", "b"}
    for i, name in enumerate(question.sources):
        here = question.row_source == i
        expected = bits * question.is_target[here].sum() / question.row_bytes[here].sum()
        assert found["word_bits_per_byte_by_source"][name] == pytest.approx(expected, rel=1e-6)
    assert (found["normalizer"], found["tokens"]) == ("light", question.is_target.sum())


def test_rows_are_asked_one_by_one_or_together_alike(held_out: Trained) -> None:
    """Batching by length and masking the padding change no row's bits: each agrees with a plain forward pass."""
    question = WordQuestion.open(held_out.run.data / "heldout.words")
    together = row_bits(held_out.model, question, held_out.device)
    for row in range(len(question.ids)):
        length = int((question.labels[row] != question.pad_id).sum())
        with torch.no_grad():
            logits = held_out.model(torch.from_numpy(question.ids[row, :length])[None])
        at = np.flatnonzero(question.is_target[row])
        losses = torch.nn.functional.cross_entropy(logits[at], torch.from_numpy(question.labels[row, at]))
        assert together[row] == pytest.approx(float(losses) * len(at) / math.log(2), rel=1e-4)


def test_another_tokenizer_is_refused(held_out: Trained) -> None:
    """Words that were cut by another tokenizer have other ids."""
    other, _ = train_tokenizer(
        iter(["a few words of text to learn from"] * 20), kind="bpe", normalizer="light", vocab=272
    )
    with pytest.raises(DataError, match="another tokenizer"):
        word_bits(replace(held_out, tokenizer=other))


def test_no_words_are_an_error(held_out: Trained) -> None:
    """Zero bytes give no rate."""
    question = WordQuestion.open(held_out.run.data / "heldout.words")
    empty = replace(question, row_bytes=np.zeros_like(question.row_bytes))
    with pytest.raises(DataError, match="no words"):
        answer(held_out.model, empty, held_out.device)


def test_diverged_weights_are_an_error(held_out: Trained) -> None:
    """NaN does not reach a summary."""
    with torch.no_grad():
        held_out.model.encoder.embedding.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="no probability"):
        word_bits(held_out)


def test_only_answers_to_one_question_are_compared(held_out: Trained) -> None:
    """Another normaliser or other words are refused with the reason."""
    found = word_bits(held_out)
    assert comparable(found, dict(found)) == ""
    assert "normalisers differ" in comparable(found, {**found, "normalizer": "crammed"})
    assert "words differ" in comparable(found, {**found, "text_fingerprint": "x"})
