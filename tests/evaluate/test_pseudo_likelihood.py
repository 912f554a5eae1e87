from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate import pseudo_likelihood
from gpuday.evaluate import subject as subjects
from gpuday.evaluate.pseudo_likelihood import TokenRows, log_likelihoods, pick_predictor, read_sentences, token_log_p
from gpuday.evaluate.subject import Predictor, Subject, subject_of_run
from gpuday.train.trained import Trained

SENTENCES = [
    "the engineers measure voltage",
    "a zebra publishes unpublishable harbours",
    "mango",
    "the zebra, behind the house, connects batteries",
    "the the the",
]


def sharpened(trained: Trained) -> Trained:
    """Weights so large that every token of a row moves every answer."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trained.model.parameters():
            parameter.normal_(std=0.3, generator=draw)
    return trained


@pytest.fixture
def subject(trained: Trained) -> Subject:
    return subject_of_run(sharpened(trained))


def by_hand(trained: Trained, sentence: str, *, later_tokens_of_the_word: bool) -> float:
    """One forward pass a token, its row laid out and its mask set by plain loops."""
    tokenizer = trained.tokenizer
    encoding = tokenizer.tokenizer.encode(sentence, add_special_tokens=False)
    total = 0.0
    for place, token in enumerate(encoding.ids):
        row = [*encoding.ids, tokenizer.sep_id]  # documents of this recipe end in <sep> and begin with nothing
        row[place] = tokenizer.mask_id
        if later_tokens_of_the_word:
            for other in range(place + 1, len(encoding.ids)):
                if encoding.word_ids[other] == encoding.word_ids[place]:
                    row[other] = tokenizer.mask_id
        with torch.no_grad():
            logits = trained.model(torch.tensor([row]))[place]
        total += float(torch.log_softmax(logits.double(), dim=0)[token])
    return total


@pytest.mark.parametrize("variant", ["original", "within_word_l2r"])
def test_both_variants_equal_a_loop_over_single_tokens(subject: Subject, trained: Trained, variant: str) -> None:
    """Copies of one length in a batch, masked by index arithmetic, give what one row at a time gives."""
    predictor = subject.predictor()
    assert predictor is not None
    found = log_likelihoods(subject, predictor, read_sentences(subject, SENTENCES), variant)
    later = variant == "within_word_l2r"
    expected = [by_hand(trained, sentence, later_tokens_of_the_word=later) for sentence in SENTENCES]
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_variants_differ_only_where_a_word_has_several_tokens(subject: Subject) -> None:
    """A sentence of words of one token each has one pseudo-log-likelihood; others have two."""
    predictor = subject.predictor()
    assert predictor is not None
    rows = read_sentences(subject, SENTENCES)
    one, other = (log_likelihoods(subject, predictor, rows, v) for v in ("original", "within_word_l2r"))
    whole = [
        len(set(words)) == len(words)
        for words in (rows.words[a : b - 1].tolist() for a, b in zip(rows.starts[:-1], rows.starts[1:], strict=True))
    ]
    assert set(whole) == {True, False}
    assert np.isclose(one, other, rtol=0, atol=1e-4).tolist() == whole


def test_batches_of_any_size_give_the_same(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch ends changes no answer, and only asked tokens are answered, in the order asked."""
    predictor = subject.predictor()
    assert predictor is not None
    rows = read_sentences(subject, SENTENCES)
    asked = rows.text[::-1][::2].copy()
    together = token_log_p(subject, predictor, rows, asked, "original")
    monkeypatch.setitem(pseudo_likelihood.TOKENS, "cpu", 1)
    apart = token_log_p(subject, predictor, rows, asked, "original")
    assert together == pytest.approx(apart, abs=1e-5)
    assert np.ptp(together) > 1


def test_logits_of_a_pass_are_bounded(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short rows of a large vocabulary go in more passes, with the same answers."""
    predictor, _ = pick_predictor(subject)
    rows, sizes = read_sentences(subject, ["the zebra jumps over a river"]), []
    whole = log_likelihoods(subject, predictor, rows, "original")

    class Counting(Predictor):
        def logits_at(self, ids: Tensor, places: Tensor) -> Tensor:
            sizes.append(len(places))
            return predictor.logits_at(ids, places)

    monkeypatch.setattr(pseudo_likelihood, "LOGITS", 2 * subject.reader.tokenizer.get_vocab_size())
    parts = log_likelihoods(subject, Counting(), rows, "original")
    assert parts == pytest.approx(whole, abs=1e-3) and max(sizes) == 2


def test_only_very_many_tokens_are_worth_compiling(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their number in all passes, for any length; and what was compiled is what answers then."""
    predictor, rows = subject.predictor(), read_sentences(subject, SENTENCES)
    assert predictor is not None
    eager = log_likelihoods(subject, predictor, rows, "original")
    lengths = np.diff(rows.starts)
    tokens = int(lengths[rows.row_of[rows.text]].sum())
    compiled: list[bool] = []
    answered: list[int] = []

    def compile_model(call: Any, *, dynamic: bool) -> Any:
        compiled.append(dynamic)

        def counted(ids: Tensor, places: Tensor) -> Tensor:
            answered.append(len(ids))
            found: Tensor = call(ids, places)
            return found

        return counted

    monkeypatch.setattr(torch, "compile", compile_model)
    monkeypatch.setattr(subjects, "start_compiler", lambda _: "")
    monkeypatch.setattr(pseudo_likelihood, "COMPILED_FROM", tokens + 1)
    log_likelihoods(subject, predictor, rows, "original")
    assert compiled == []
    monkeypatch.setattr(pseudo_likelihood, "COMPILED_FROM", tokens)
    found = log_likelihoods(subject, predictor, rows, "original")
    assert compiled == [True] and sum(answered) == len(rows.text)
    assert found == pytest.approx(eager, abs=1e-5)


@pytest.mark.parametrize("fault", ["no C++ compiler", ""])
def test_what_cannot_be_compiled_is_answered_eager(
    fault: str, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no kernel can be built at all, or none for one length amid the others: nothing ends, and one notice says why."""
    predictor, rows = subject.predictor(), read_sentences(subject, SENTENCES)
    assert predictor is not None
    eager = log_likelihoods(subject, predictor, rows, "original")
    shapes, told = [], list[str]()

    def compile_model(call: Any, *, dynamic: bool) -> Any:
        def failing(ids: Tensor, places: Tensor) -> Tensor:
            shapes.append(ids.shape)
            if len(shapes) > 1:
                raise RuntimeError("no kernel for this length\nand a long trace")
            found: Tensor = call(ids, places)
            return found

        return failing

    def tell(event: str, /, **values: Any) -> None:
        if event == "notice":
            told.append(values["message"])

    monkeypatch.setattr(torch, "compile", compile_model)
    monkeypatch.setattr(subjects, "start_compiler", lambda _: fault)
    monkeypatch.setattr(pseudo_likelihood, "COMPILED_FROM", 1)
    found = log_likelihoods(subject, predictor, rows, "original", progress=tell)
    assert found == pytest.approx(eager, abs=1e-5)
    assert len(shapes) == (0 if fault else 2)
    assert told == [f"masked tokens are predicted eager, which is slower: {fault or 'no kernel for this length'}"]


def test_memory_that_is_used_up_is_no_fault_of_the_compiler(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said as such, and not tried again eager."""

    def compile_model(call: Any, *, dynamic: bool) -> Any:
        def failing(ids: Tensor, places: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("no memory")

        return failing

    monkeypatch.setattr(torch, "compile", compile_model)
    monkeypatch.setattr(subjects, "start_compiler", lambda _: "")
    monkeypatch.setattr(pseudo_likelihood, "COMPILED_FROM", 1)
    with pytest.raises(torch.OutOfMemoryError):
        log_likelihoods(subject, pick_predictor(subject)[0], read_sentences(subject, ["mango"]), "original")


def test_rows_are_framed_as_documents_were_in_training(trained: Trained) -> None:
    """Special tokens that training rows did not have are not put around a sentence, and none of them is asked for."""
    tokenizer, subject = trained.tokenizer, subject_of_run(trained)
    (ids,) = tokenizer.encode_batch(["mango"])
    for framed, expected in {
        (False, True): [*ids, tokenizer.sep_id],
        (True, True): [tokenizer.cls_id, *ids, tokenizer.sep_id],
        (False, False): ids,
    }.items():
        rows = read_sentences(replace(subject, framed=framed), ["mango"])
        assert rows.ids.tolist() == expected
        assert rows.ids[rows.text].tolist() == ids
    assert subject.framed == (trained.recipe.data.cls, trained.recipe.data.sep)


def test_bf16_comes_near_to_fp32(subject: Subject) -> None:
    """The answers of the fast dtype are those of fp32 but for its rounding."""
    rows = read_sentences(subject, SENTENCES)
    exact, fast = (
        log_likelihoods(subject, predictor, rows, "original")
        for dtype in (torch.float32, torch.bfloat16)
        if (predictor := subject.predictor(dtype)) is not None
    )
    assert exact.tolist() != fast.tolist()
    assert fast == pytest.approx(exact, rel=0.05)


def test_a_sentence_longer_than_the_model_is_refused(subject: Subject) -> None:
    """It is not cut: a part of a sentence has another probability."""
    with pytest.raises(DataError, match="more tokens than the 32"):
        read_sentences(subject, ["mango", "zebra " * 40])


def test_a_sentence_of_nothing_is_refused(subject: Subject) -> None:
    """Without tokens there is nothing to score."""
    with pytest.raises(DataError, match="leaves nothing"):
        read_sentences(subject, [""])


def test_diverged_weights_are_an_error(subject: Subject, trained: Trained) -> None:
    """NaN is no log-probability."""
    with torch.no_grad():
        trained.model.encoder.embedding.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="no probability"):
        log_likelihoods(subject, pick_predictor(subject)[0], read_sentences(subject, ["mango"]), "original")


def test_who_predicts_no_masked_tokens_is_refused_with_the_reason(trained: Trained) -> None:
    """A model without the head, one whose generator has it, and one that predicts from the position before."""
    subject = subject_of_run(trained)
    with pytest.raises(UsageError, match="has no head"):
        pick_predictor(replace(subject, make_predictor=None, no_predictor="it has no head"))
    with pytest.raises(UsageError, match="generator"):
        pick_predictor(subject_of_run(replace(trained, generator=trained.model)))
    trained.model.shifted = True
    with pytest.raises(UsageError, match="position before"):
        pick_predictor(subject_of_run(trained))


def test_rows_lie_end_to_end() -> None:
    """Starts, row numbers and tokens of text of two rows, worked out by hand."""
    rows = TokenRows.of([([7, 8, 3], [0, 0, -1]), ([9, 3], [0, -1])])
    assert rows.ids.tolist() == [7, 8, 3, 9, 3]
    assert rows.starts.tolist() == [0, 3, 5]
    assert rows.row_of.tolist() == [0, 0, 0, 1, 1]
    assert rows.text.tolist() == [0, 1, 3]
