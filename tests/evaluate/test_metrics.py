import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuday.evaluate import metrics
from gpuday.evaluate.tasks import Rows, Task

REFERENCE = {
    "accuracy": sklearn.metrics.accuracy_score,
    "f1": sklearn.metrics.f1_score,
    "matthews": sklearn.metrics.matthews_corrcoef,
    "pearson": lambda a, b: scipy.stats.pearsonr(a, b).statistic,
    "spearman": lambda a, b: scipy.stats.spearmanr(a, b).statistic,
}


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews"])
@pytest.mark.parametrize("seed", range(5))
def test_classification_agrees_with_scikit_learn(name: str, seed: int) -> None:
    """Random labels of one to forty rows get scikit-learn's value, constant ones included."""
    draw = np.random.default_rng(seed)
    for count in (1, 2, 3, 40):
        truth, predicted = draw.integers(0, 2, count), draw.integers(0, 2, count)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn remarks on labels that are all alike
            expected = REFERENCE[name](truth, predicted)
        assert metrics.METRICS[name](truth, predicted) == pytest.approx(expected, abs=1e-12)


def test_matthews_agrees_with_scikit_learn_on_three_classes() -> None:
    """The correlation is not limited to two classes."""
    draw = np.random.default_rng(0)
    truth, predicted = draw.integers(0, 3, 100), draw.integers(0, 3, 100)
    expected = sklearn.metrics.matthews_corrcoef(truth, predicted)
    assert metrics.matthews(truth, predicted) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize("seed", range(5))
def test_correlations_agree_with_scipy(name: str, seed: int) -> None:
    """Real values with ties get scipy's correlation."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, 11, 50) / 2.0
    predicted = truth + draw.normal(size=50).round(1)
    assert metrics.METRICS[name](truth, predicted) == pytest.approx(REFERENCE[name](truth, predicted), abs=1e-12)


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
def test_a_constant_answer_correlates_with_nothing(name: str) -> None:
    """Where the correlation is undefined it is 0, not NaN and not a rounding error."""
    truth = np.array([0.1, 0.7, 0.2, 0.9]) if name != "matthews" else np.array([0, 1, 0, 1])
    assert metrics.METRICS[name](truth, np.full_like(truth, truth[1])) == 0.0


def columns(values: st.SearchStrategy) -> st.SearchStrategy[list[tuple]]:
    """Rows of (truth, predicted)."""
    return st.lists(st.tuples(values, values), min_size=2, max_size=30)


@settings(max_examples=25, deadline=None)
@given(columns(st.integers(0, 3)))
def test_scores_of_any_labels_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    """Of up to four classes, absent and constant ones included."""
    truth, predicted = np.array(pairs).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn remarks on classes that nobody has, or named
        for name, reference in {
            "accuracy": sklearn.metrics.accuracy_score,
            "macro_f1": lambda a, b: sklearn.metrics.f1_score(a, b, average="macro"),
            "matthews": sklearn.metrics.matthews_corrcoef,
            "f1": lambda a, b: sklearn.metrics.f1_score(a == 1, b == 1),
        }.items():
            assert metrics.METRICS[name](truth, predicted) == pytest.approx(reference(truth, predicted), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(columns(st.integers(-100, 100).map(lambda i: i / 8)))
def test_correlations_of_any_values_agree_with_scipy(pairs: list[tuple[float, float]]) -> None:
    """Ties included; where scipy warns of a constant and gives NaN, the value is 0."""
    truth, predicted = np.array(pairs).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("pearson", "spearman"):
            expected = float(np.nan_to_num(REFERENCE[name](truth, predicted)))
            assert metrics.METRICS[name](truth, predicted) == pytest.approx(expected, abs=1e-9)


TAGGING = Task(name="x", suite="s", kind="tagging", classes=("B-A", "I-A", "O"), metrics=("entity_f1", "accuracy"))


def test_tags_are_measured_sentence_by_sentence() -> None:
    """By hand: the second sentence's entity is named one word too short; four of five tags are right."""
    rows = Rows(
        text_a=("a b", "c d e"), words=(("a", "b"), ("c", "d", "e")), labels=np.array([0, 2, 0, 1, 2], dtype=np.int64)
    )
    predicted = np.array([0, 2, 0, 2, 2], dtype=np.int64)
    assert metrics.measure(TAGGING, rows, predicted) == {"entity_f1": 0.5, "accuracy": 0.8}


def test_spans_are_measured_by_their_text() -> None:
    """One exact, one in part, one rightly without an answer."""
    task = Task(name="x", suite="s", kind="span", pair=True, metrics=("span_f1", "exact_match"))
    rows = Rows(
        text_a=("q",) * 3,
        text_b=("c",) * 3,
        labels=np.zeros((3, 2), dtype=np.int64),
        answers=(("Ann",), ("x y z",), ()),
    )
    assert metrics.measure(task, rows, ("ann", "x", "")) == pytest.approx({"span_f1": 2.5 / 3, "exact_match": 2 / 3})


def test_every_metric_that_is_named_can_be_measured() -> None:
    """The names in a task's row and the functions here are the same set."""
    from typing import get_args

    from gpuday.evaluate.tasks.task import Metric

    special = {"entity_f1", "exact_match", "span_f1", "question_match", "gender_parity"}
    assert set(get_args(Metric)) == set(metrics.METRICS) | special


def test_unlabelled_rows_are_not_measured() -> None:
    """A fault of the program, found at once."""
    task = Task(name="x", suite="s", classes=("a", "b"))
    rows = Rows(text_a=("a",), labels=np.array([0]))
    assert metrics.measure(task, rows, np.array([0])) == {"accuracy": 1.0}
    with pytest.raises(AssertionError, match="only labelled"):
        metrics.measure(task, replace(rows, labels=None), np.array([0]))
