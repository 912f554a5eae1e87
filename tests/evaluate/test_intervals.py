"""Intervals over seeds, against scipy and by how often they hold the truth; over rows, against resampling row by row."""

import warnings

import numpy as np
import pytest
from scipy import stats

from gpuday.core.seeds import generator
from gpuday.evaluate.intervals import RESAMPLES, Interval, bca, rows_interval
from gpuday.evaluate.metrics import METRICS, measure
from gpuday.evaluate.tasks.rows import Rows
from gpuday.evaluate.tasks.task import Task

DRAWS = np.random.default_rng(7)


@pytest.mark.parametrize("statistic", [np.median, np.mean])
def test_the_interval_is_scipys(statistic):
    """To the bit, with the same random numbers."""
    values = [0.71, 0.68, 0.735, 0.7, 0.722, 0.69]
    theirs = stats.bootstrap((values,), statistic, n_resamples=RESAMPLES, method="BCa", rng=generator(0, "bca"))
    ours = bca(values, statistic=statistic)
    assert ours is not None
    assert (ours.low, ours.high) == tuple(theirs.confidence_interval)
    assert (ours.method, ours.n, ours.confidence) == ("BCa", 6, 0.95)


def test_the_same_values_have_the_same_interval():
    """A table can be made again; another confidence is another interval."""
    values = DRAWS.normal(size=12).tolist()
    assert bca(values, statistic=np.mean) == bca(values, statistic=np.mean)
    narrow, wide = (bca(values, statistic=np.mean, confidence=c) for c in (0.5, 0.99))
    assert narrow is not None and wide is not None
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("values", [[], [0.7], [0.7, 0.8]])
def test_two_seeds_have_no_interval(values):
    """Nothing is made up."""
    assert (bca(values) if values else bca([0.7, 0.8, 0.9], values)) is None


def test_equal_seeds_have_a_point():
    """Which says that it is one."""
    assert bca([0.5, 0.5, 0.5]) == Interval(low=0.5, high=0.5, confidence=0.95, method="constant", n=3)


@pytest.mark.parametrize("values", [[1.0, 2.0, 2.0, 2.0, 3.0], [0.1, 0.1, 0.1, 0.1, 0.2]])
def test_where_the_correction_is_not_defined_percentiles_stand_in(values):
    """All medians without one seed are equal, so that scipy gives NaN and a warning; here the method's name says so."""
    with pytest.warns(stats.DegenerateDataWarning), np.errstate(invalid="ignore"):
        nan = stats.bootstrap((values,), np.median, n_resamples=99, method="BCa", rng=1).confidence_interval
    assert np.isnan(nan).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bca(values)
    assert found is not None
    assert (found.low, found.high, found.method) == (min(values), max(values), "percentile")


def test_two_samples_have_the_interval_of_their_difference():
    """Shifting one shifts the interval by as much."""
    ours, theirs = DRAWS.normal(size=8), DRAWS.normal(size=6)

    def apart(x, y, axis):
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    near, far = (bca(ours + shift, theirs, statistic=apart) for shift in (0.0, 5.0))
    assert near is not None and far is not None
    assert (far.low - near.low, far.high - near.high) == pytest.approx((5.0, 5.0))
    assert near.low < ours.mean() - theirs.mean() < near.high and near.n == 6


@pytest.mark.parametrize(("seeds", "share"), [(3, 0.75), (5, 0.9375)])
def test_few_seeds_hold_the_median_as_often_as_is_said(seeds, share):
    """94% of the time and not 95 with five, 75% at most with three: the interval reaches from the least to the largest of
    them, or less far, and says so."""
    drawn = np.random.default_rng(0).normal(size=(150, seeds))
    found = [interval for interval in map(bca, drawn.tolist()) if interval is not None]
    assert len(found) == 150
    assert np.mean([one.low <= 0 <= one.high for one in found]) == pytest.approx(
        share, abs=0.071 if seeds == 3 else 0.04
    )
    assert {one.confidence for one in found} == {share}


def test_what_was_asked_for_is_said_where_it_holds():
    """Of many seeds, of less confidence, of a mean."""
    values = DRAWS.normal(size=3).tolist()
    found = bca(values, confidence=0.5), bca(DRAWS.normal(size=30).tolist()), bca(values, statistic=np.mean)
    assert [one.confidence for one in found if one is not None] == [0.5, 0.95, 0.95]


def row_by_row(task, rows, predicted, units, resamples=1000):
    """The ends of the interval by copying the rows of drawn units, and measuring each copy."""
    draws, values = np.random.default_rng(3), []
    for _ in range(resamples):
        picked = np.concatenate([units[u] for u in draws.integers(len(units), size=len(units))])
        values.append(METRICS[task.main](rows.labels[picked], predicted[picked]))
    return np.quantile(values, [0.025, 0.975])


@pytest.mark.parametrize("metric", ["accuracy", "f1", "macro_f1", "matthews"])
@pytest.mark.parametrize("grouped", [False, True])
def test_counts_of_kinds_of_rows_stand_for_the_rows(metric, grouped):
    """The interval is that of rows, or groups, drawn one by one; 3 classes, 200 rows."""
    draws = np.random.default_rng(1)
    truth = draws.integers(3, size=200)
    predicted = np.where(draws.random(200) < 0.6, truth, draws.integers(3, size=200))
    group = draws.integers(40, size=200) if grouped else np.arange(200)
    rows = Rows(text_a=("",) * 200, labels=truth, groups=tuple(map(str, group)) if grouped else None)
    task = Task(name="toy", suite="toy", classes=("a", "b", "c"), metrics=(metric,))
    units = [np.flatnonzero(group == g) for g in np.unique(group)]
    found = rows_interval(task, rows, predicted)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(row_by_row(task, rows, predicted, units, 400), abs=0.025)
    assert found.low < measure(task, rows, predicted)[metric] < found.high
    assert (found.method, found.n) == ("percentile, groups", 40) if grouped else ("percentile, rows", 200)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_correlations_have_the_interval_of_rows_drawn_one_by_one(metric):
    """120 values; the mean lies far from zero, where sums of squares lose their digits."""
    draws = np.random.default_rng(2)
    truth = draws.normal(size=120) + 1e4
    predicted = truth + draws.normal(size=120)
    rows = Rows(text_a=("",) * 120, labels=truth)
    task = Task(name="toy", suite="toy", kind="regression", metrics=(metric,))
    found = rows_interval(task, rows, predicted)
    assert found is not None
    expected = row_by_row(task, rows, predicted, [np.array([i]) for i in range(120)], 400)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.03)


def test_a_share_has_the_binomial_interval():
    """Accuracy 0.8 of 2,500 rows: 1.96 standard errors to both sides."""
    truth = np.zeros(2500, dtype=np.int64)
    predicted = (np.arange(2500) % 5 == 0).astype(np.int64)
    task = Task(name="toy", suite="toy", classes=("a", "b"))
    found = rows_interval(task, Rows(text_a=("",) * 2500, labels=truth), predicted)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.8 - 1.96 * 0.008, 0.8 + 1.96 * 0.008), abs=0.002)


def test_questions_are_drawn_whole():
    """30 questions of 4 answers each, half of them all right."""
    truth = np.zeros(120, dtype=np.int64)
    predicted = np.where(np.arange(120) % 8 == 0, 1, 0)
    groups = tuple(str(i // 4) for i in range(120))
    task = Task(name="toy", suite="toy", classes=("a", "b"), metrics=("question_match",))
    found = rows_interval(task, Rows(text_a=("",) * 120, labels=truth, groups=groups), predicted)
    assert found is not None and found.n == 30
    assert (found.low, found.high) == pytest.approx((0.5 - 0.18, 0.5 + 0.18), abs=0.04)


@pytest.mark.parametrize("metric", ["entity_f1", "accuracy"])
def test_sentences_of_tags_are_drawn_whole(metric):
    """40 sentences, every second of which is tagged wrong from end to end: the score is a half, give or take."""
    tags = np.tile([1, 2, 0], 40)
    predicted = np.where(np.repeat(np.arange(40) % 2, 3) == 1, 3, tags)
    rows = Rows(text_a=("a b c",) * 40, labels=tags, words=(("a", "b", "c"),) * 40)
    task = Task(name="toy", suite="toy", kind="tagging", classes=("O", "B-x", "I-x", "B-y"), metrics=(metric,))
    found = rows_interval(task, rows, predicted)
    assert found is not None and found.n == 40
    assert found.low < measure(task, rows, predicted)[metric] < found.high
    assert 0.15 < found.high - found.low < 0.4


def test_answers_of_a_text_are_drawn_by_question():
    """Half of 100 answers are right: 0.5 +- 0.098."""
    rows = Rows(text_a=("",) * 100, text_b=("",) * 100, labels=None, answers=(("yes", "sure"),) * 100)
    task = Task(name="toy", suite="toy", kind="span", metrics=("exact_match",))
    found = rows_interval(task, rows, ("yes", "no") * 50)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.402, 0.598), abs=0.025)


def test_one_row_has_no_interval():
    """Whatever it is resampled to."""
    task = Task(name="toy", suite="toy", classes=("a", "b"))
    assert rows_interval(task, Rows(text_a=("",), labels=np.array([1])), np.array([1])) is None
