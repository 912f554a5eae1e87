import numpy as np
import pytest
import torch

from gpuday.evaluate.decoding import MOST_ANSWER_TOKENS, answers_of_rows, best_spans, tags_of_words, unread_tag
from gpuday.evaluate.encoding import Windows
from gpuday.evaluate.tasks import Rows


def test_a_word_has_the_tag_of_its_first_token() -> None:
    """Places count through the flattened table; what was cut off, -1, has the tag that is said."""
    tags = np.array([[9, 1, 2], [9, 3, 4]])
    assert tags_of_words(tags, np.array([1, 2, 4, -1]), 7).tolist() == [1, 2, 3, 7]


def test_a_word_that_was_cut_off_is_no_entity() -> None:
    """It is tagged "O", wherever that stands among the classes; where there is none, as most words of train are."""
    known = np.array([2, 0, 0, 1])
    assert unread_tag(("B-LOC", "I-LOC", "O"), known) == 2
    assert unread_tag(("ADJ", "NOUN", "VERB"), known) == 0
    assert unread_tag(("ADJ", "NOUN", "VERB"), known + 1) == 1


def test_best_spans_agree_with_a_search_over_all_pairs() -> None:
    """First and last lie in the context, in order, at most 30 tokens apart; no answer has the score of position 0."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(20, 48, 2, generator=draw)
    context = torch.rand(20, 48, generator=draw) < 0.8
    for window, (best, first, last, absent) in enumerate(best_spans(scores, context).tolist()):
        pairs = {
            (i, j): float(scores[window, i, 0] + scores[window, j, 1])
            for i in range(48)
            for j in range(i, min(48, i + MOST_ANSWER_TOKENS))
            if context[window, i] and context[window, j]
        }
        assert best == pytest.approx(max(pairs.values()), abs=1e-5)
        assert pairs[int(first), int(last)] == pytest.approx(best, abs=1e-5)
        assert absent == pytest.approx(float(scores[window, 0].sum()), abs=1e-5)


def test_a_window_without_context_has_no_answer() -> None:
    """Its score is minus infinity, so that any other window wins."""
    found = best_spans(torch.zeros(1, 8, 2), torch.zeros(1, 8, dtype=torch.bool))
    assert found[0, 0] == -torch.inf


def rows_and_windows() -> tuple[Rows, Windows]:
    """Two questions; the first context, `one two three`, is in two windows of two words each."""
    rows = Rows(text_a=("q", "q"), text_b=("one two three", "four "), labels=None)
    characters = np.zeros((3, 4, 2), dtype=np.int32)
    characters[0, 1:3] = [(0, 3), (4, 7)]
    characters[1, 1:3] = [(4, 7), (8, 13)]
    characters[2, 1:2] = [(0, 5)]
    return rows, Windows(row=np.array([0, 0, 1]), characters=characters)


def test_the_best_window_gives_the_text() -> None:
    """Characters of the original text, from the window that scores highest; white space at its ends is left out."""
    rows, windows = rows_and_windows()
    spans = np.array([[1.0, 1, 2, 9.0], [2.0, 1, 2, 9.0], [0.5, 1, 1, 9.0]], dtype=np.float32)
    assert answers_of_rows(spans, windows, rows, may_be_absent=False) == ("two three", "four")


def test_an_answer_is_absent_only_if_no_window_holds_it() -> None:
    """The lowest score of no answer over the windows counts; where all rows have answers it never does."""
    rows, windows = rows_and_windows()
    spans = np.array([[1.0, 1, 1, 9.0], [2.0, 2, 2, 1.5], [0.5, 1, 1, 0.6]], dtype=np.float32)
    assert answers_of_rows(spans, windows, rows, may_be_absent=True) == ("three", "")
    assert answers_of_rows(spans, windows, rows, may_be_absent=False) == ("three", "four")


def test_a_row_without_any_context_has_the_empty_answer() -> None:
    """Whether or not answers may be absent."""
    rows, windows = rows_and_windows()
    spans = np.array([[1.0, 1, 1, 0.0], [2.0, 2, 2, 0.0], [-np.inf, 0, 0, 0.0]], dtype=np.float32)
    assert answers_of_rows(spans, windows, rows, may_be_absent=False)[1] == ""
