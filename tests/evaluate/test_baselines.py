import numpy as np
import pytest

from gpuday.evaluate.baselines import bag_of_words, majority
from gpuday.evaluate.tasks import TaskData


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
