from dataclasses import replace

import numpy as np
import pytest
import torch

from gpuday.data.tokenizer import TextTokenizer
from gpuday.evaluate import encoding
from gpuday.evaluate.buckets import IGNORED
from gpuday.evaluate.encoding import answer_tokens, encode, encode_task
from gpuday.evaluate.protocols import P1
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.tasks import Rows
from toy_tasks import toy


def test_pairs_are_those_of_the_tokenizer(subject: Subject, tokenizer: TextTokenizer) -> None:
    """Ids are `encode_pair`'s, the padding is the padding id, and blocks of rows make no difference."""
    task, rows = toy("regression").task, toy("regression").train
    found = encode(subject, task, rows, 16).encoded
    assert rows.text_b is not None
    for row, (a, b) in enumerate(zip(rows.text_a, rows.text_b, strict=True)):
        expected = tokenizer.encode_pair(a, b, 16)
        assert found.ids[row, : len(expected)].tolist() == expected
        assert (found.ids[row, len(expected) :] == tokenizer.pad_id).all()
    assert found.labels is not None
    assert (found.labels.dtype, found.types) == (torch.float32, None)


def test_blocks_of_rows_make_no_difference(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are read seven at a time are those that are read at once, for every kind."""
    for kind in ("classification", "choice", "tagging", "span"):
        task, rows = toy(kind).task, toy(kind).train
        whole = encode(subject, task, rows, 16)
        monkeypatch.setattr(encoding, "BLOCK", 7)
        parts = encode(subject, task, rows, 16)
        monkeypatch.undo()
        assert torch.equal(whole.encoded.ids, parts.encoded.ids)
        assert whole.encoded.labels is not None
        assert parts.encoded.labels is not None
        assert torch.equal(whole.encoded.labels, parts.encoded.labels)


def test_long_rows_are_cut(subject: Subject) -> None:
    """No row has more tokens than the protocol and the model allow."""
    data = toy("classification")
    long = Rows(text_a=("the river " * 100,), text_b=None, labels=np.array([0]))
    assert encode(subject, data.task, long, 16).encoded.host_lengths.tolist() == [16]
    task = encode_task(subject, replace(data, dev=long), replace(P1, max_tokens=1000))
    assert task.asked["words"].encoded.host_lengths.tolist() == [subject.length]


def test_candidates_are_paired_with_the_text(subject: Subject, tokenizer: TextTokenizer) -> None:
    """Row i's candidates are the token rows 3 i to 3 i + 2; the row is as long as its longest."""
    task, rows = toy("choice").task, toy("choice").train
    found = encode(subject, task, rows, 32).encoded
    assert rows.options is not None
    for row in (0, 7):
        expected = [tokenizer.encode_pair(rows.text_a[row], option, 32) for option in rows.options[row]]
        assert found.lengths[3 * row : 3 * row + 3].tolist() == [len(e) for e in expected]
        assert found.host_lengths[row] == max(map(len, expected))
        assert found.ids[3 * row + 1, : len(expected[1])].tolist() == expected[1]


def test_only_the_first_token_of_a_word_has_a_target(subject: Subject) -> None:
    """Its tag; special tokens, the rest of the word and padding are ignored, and the places lead back to the words."""
    data = toy("tagging")
    asked = encode(subject, data.task, data.train, 32)
    labels, words, rows = asked.encoded.labels, asked.words, data.train
    assert labels is not None
    assert words is not None
    assert rows.labels is not None
    assert torch.equal(labels.flatten()[torch.from_numpy(words)], torch.from_numpy(rows.labels))
    assert int((labels != IGNORED).sum()) == len(words) == len(set(words.tolist()))
    assert asked.unread_words == 0


def test_words_beyond_the_length_have_no_place(subject: Subject) -> None:
    """They are -1, at the end of their rows, and counted."""
    data = toy("tagging")
    asked = encode(subject, data.task, data.train, 8)
    assert asked.words is not None
    lengths = [len(words) for words in data.train.words or ()]
    for row in np.split(asked.words, np.cumsum(lengths)[:-1]):
        assert (np.sort(row < 0) == (row < 0)).all()
    assert asked.unread_words == int((asked.words < 0).sum()) > 0


def test_the_tokens_of_an_answer_spell_it(subject: Subject) -> None:
    """First and last token of each train row lie on the answer's characters, in windows as well as in whole contexts."""
    data = toy("span", train=60)
    for longest in (32, 18):
        asked = encode(subject, data.task, data.train, longest)
        assert asked.windows is not None
        assert asked.encoded.labels is not None
        answered = set()
        for window, (first, last) in enumerate(asked.encoded.labels.tolist()):
            row = int(asked.windows.row[window])
            if (first, last) == (0, 0):
                continue
            context = (data.train.text_b or ())[row]
            start, stop = asked.windows.characters[window, [first, last], [0, 1]].tolist()
            assert context[start:stop] == "zebra"
            answered.add(row)
        assert answered == set(range(60))
    assert len(asked.encoded) > 60


def test_answers_that_a_window_does_not_hold_whole_are_at_position_0() -> None:
    """Characters 10 to 20 in windows that hold 10 to 20, 5 to 15, 12 to 30 and 20 to 30; and the answer that is none."""
    ends = [(10, 15, 20), (5, 10, 15), (12, 20, 30), (20, 25, 30), (10, 15, 20)]
    characters = np.array([[(0, 0), (a, b), (b, c)] for a, b, c in ends], dtype=np.int32)
    context = np.array([[False, True, True]] * 5)
    answers = np.array([(10, 20)] * 4 + [(-1, -1)])
    assert answer_tokens(characters, context, answers).tolist() == [[1, 2], [0, 0], [0, 0], [0, 0], [0, 0]]


def test_unlabelled_rows_are_encoded_without_targets(subject: Subject) -> None:
    """A test set has rows to answer and nothing to learn from."""
    data = toy("span")
    task = encode_task(subject, replace(data, test={"answers": replace(data.dev, labels=None, answers=None)}), P1)
    assert list(task.asked) == ["answers", "test:answers"]
    assert task.asked["test:answers"].encoded.labels is None
