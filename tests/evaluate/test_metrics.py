import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from gpuday.evaluate import metrics

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
