from dataclasses import replace

import numpy as np
import pytest

from gpuday.evaluate.baselines import bag_of_words, best_constant, majority
from gpuday.evaluate.tasks import Rows, Task, TaskData


def test_majority_is_the_share_of_the_commonest_train_label(toy_data: TaskData) -> None:
    """Counted by hand."""
    commonest = np.bincount(toy_data.train.labels).argmax()
    assert majority(toy_data) == pytest.approx(np.mean(toy_data.dev.labels == commonest))


def test_a_constant_answer_to_a_regression_correlates_with_nothing(other_data: TaskData) -> None:
    """The mean label has a correlation of exactly 0."""
    assert majority(other_data) == 0.0


def test_a_bag_of_words_solves_a_task_of_single_words(toy_data: TaskData) -> None:
    """Which of two words a text has is what it can tell."""
    assert bag_of_words(toy_data) == 1.0


def test_a_bag_of_words_answers_a_regression(other_data: TaskData) -> None:
    """Numbers that hang on a word are ranked by a linear model."""
    one_text = replace(other_data.train, text_b=None), replace(other_data.dev, text_b=None)
    found = bag_of_words(replace(other_data, train=one_text[0], dev=one_text[1]))
    assert found is not None
    assert found > 0.9


def test_a_bag_of_words_needs_words(toy_data: TaskData) -> None:
    """Where no text of train has a word of two letters there is none, and no error; one such word is enough."""
    letters = Rows(text_a=("A C", "G T", "", "C A"), labels=np.array([0, 1, 0, 1]))
    assert bag_of_words(replace(toy_data, train=letters)) is None
    one = Rows(text_a=("A C", "GT", "A", "C A"), labels=letters.labels)
    assert bag_of_words(replace(toy_data, train=one)) is not None


def test_a_bag_of_words_is_bounded(toy_data: TaskData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more words than there may be, the commonest count: here the two that tell the classes apart."""
    monkeypatch.setattr("gpuday.evaluate.baselines._MOST_WEIGHTS", 4)
    rare = [Rows(text_a=tuple(f"{t.split('a')[0]} {('mango', 'zebra')[y]} rare{i}" for i, (t, y) in enumerate(
        zip(rows.text_a, rows.labels, strict=True))), labels=rows.labels) for rows in (toy_data.train, toy_data.dev)]  # fmt: skip
    assert bag_of_words(replace(toy_data, train=rare[0], dev=rare[1])) == 1.0


def of_kind(task: Task, rows: Rows) -> TaskData:
    return TaskData(task=task, train=rows, dev=rows, data_hash="", train_rows_available=len(rows))


def test_the_majority_of_every_kind() -> None:
    """By hand: the commonest option, the commonest tag, and no answer. None of them has a bag of words."""
    choice = Rows(text_a=("a",) * 4, options=(("x", "y"),) * 4, labels=np.array([1, 1, 0, 1]))
    tags = Rows(text_a=("a b c", "d"), words=(("a", "b", "c"), ("d",)), labels=np.array([1, 1, 0, 1]))
    spans = Rows(
        text_a=("q",) * 4, text_b=("c",) * 4, labels=np.zeros((4, 2), dtype=np.int64), answers=(("c",), (), (), ("c",))
    )
    task = Task(name="x", suite="s")
    for data, expected in (
        (of_kind(replace(task, kind="choice", options=2), choice), 0.75),
        (of_kind(replace(task, kind="tagging", classes=("B-A", "O")), tags), 0.75),
        (of_kind(replace(task, kind="span", metrics=("exact_match",)), spans), 0.5),
    ):
        assert majority(data) == expected
        assert bag_of_words(data) is None


def test_the_best_constant_answer_is_that_of_the_metric() -> None:
    """Of F1 it is yes, though most rows are no; of accuracy the commonest label, and of a regression its mean."""
    rows = Rows(text_a=("a",) * 100, text_b=("b",) * 100, labels=np.array([0] * 63 + [1] * 37))
    task = Task(name="x", suite="s", classes=("no", "yes"), pair=True, metrics=("f1", "accuracy"))
    assert (majority(of_kind(task, rows)), best_constant(of_kind(task, rows))) == (0.0, pytest.approx(2 * 0.37 / 1.37))
    plain = of_kind(replace(task, metrics=("accuracy",)), rows)
    assert majority(plain) == best_constant(plain) == 0.63
    assert best_constant(plain, Rows(text_a=("a",), text_b=("b",), labels=np.array([1]))) == 0.0


def test_the_majority_on_other_rows_is_that_of_train(toy_data: TaskData) -> None:
    """A companion is answered with the label that train has most of."""
    commonest = np.bincount(toy_data.train.labels).argmax()
    rows = Rows(text_a=("a", "b"), labels=np.array([commonest, commonest]))
    assert majority(toy_data, rows) == 1.0
