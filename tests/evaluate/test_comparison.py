"""Who is ahead: ranks, probability of improvement and orders, by hand and against scipy."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats

from gpuday.core.errors import UsageError
from gpuday.evaluate.aggregates import TaskScore
from gpuday.evaluate.comparison import compare, improvement, mean_rank, most_confidence
from gpuday.evaluate.intervals import bca

STEADY = {"a": [0.5, 0.5, 0.5], "b": [0.5, 0.5, 0.5], "c": [0.5, 0.5, 0.5]}
UNEVEN = {"a": [0.9, 0.9, 0.9], "b": [0.6, 0.6, 0.6], "c": [0.1, 0.1, 0.1]}


def test_the_order_that_depends_on_the_aggregate_is_said_to():
    """One weak task: the arithmetic mean forgives it, the geometric and the harmonic do not."""
    found = compare({"steady": STEADY, "uneven": UNEVEN})
    orders = {kind: one["order"] for kind, one in found["orders"].items()}
    assert orders["arithmetic"] == orders["mean rank"] == [["uneven"], ["steady"]]
    assert orders["geometric"] == orders["harmonic"] == [["steady"], ["uneven"]]
    assert "normalised" not in orders  # no marks
    assert found["depends_on_aggregate"]
    assert "uneven > steady by arithmetic, mean rank; steady > uneven by geometric, harmonic" in found["sentence"]
    assert set(found["depends_on_task"]["c"]) == {"geometric", "harmonic"}


def test_an_order_that_holds_is_said_to_hold():
    """Better everywhere: under every aggregate, and without any task."""
    better = {task: [v + 0.1 for v in values] for task, values in STEADY.items()}
    found = compare({"old": STEADY, "new": better}, marks=dict.fromkeys("abc", (0.0, 1.0)))
    assert not found["depends_on_aggregate"] and found["depends_on_task"] == {}
    assert found["sentence"] == (
        "All 5 aggregates give one order: new > old. Leaving out any one task changes none of them."
    )
    assert found["mean_rank"] == {"old": 2.0, "new": 1.0}


def test_of_one_task_no_aggregate_says_more_than_another():
    """The sentence claims nothing of means, nor of leaving the task out."""
    found = compare({"old": {"a": [0.5, 0.5, 0.5]}, "new": {"a": [0.6, 0.6, 0.6]}})
    assert found["sentence"] == "Of one task alone: new > old."


def test_equal_models_stand_together():
    """Neither is said to be ahead of the other."""
    found = compare({"one": STEADY, "two": dict(STEADY)})
    assert found["orders"]["arithmetic"]["order"] == [["one", "two"]]
    assert found["improvement"][0]["probability"] == 0.5
    assert "one = two" in found["sentence"]


def test_ranks_are_shared_where_scores_are_equal():
    """By hand: (1, 2.5, 2.5) and (3, 1, 2)."""
    values = {"x": (0.9, 0.1), "y": (0.5, 0.8), "z": (0.5, 0.4)}
    tables = {m: {t: TaskScore(value=v) for t, v in zip("ab", row, strict=True)} for m, row in values.items()}
    assert mean_rank(tables, ["a", "b"]) == {"x": 2.0, "y": 1.75, "z": 2.25}


def test_the_probability_of_improvement_is_the_mean_of_mann_whitneys():
    """U over the number of pairs, a half for ties, averaged over tasks (arXiv 2108.13264); models may differ in seeds."""
    draws = np.random.default_rng(0)
    ours = [draws.integers(5, size=6).tolist() for _ in range(4)]
    theirs = [draws.integers(4, size=5).tolist() for _ in range(4)]
    expected = np.mean([stats.mannwhitneyu(x, y).statistic / 30 for x, y in zip(ours, theirs, strict=True)])
    found, interval = improvement(ours, theirs)
    assert found == pytest.approx(expected, rel=1e-12)
    assert interval is not None and interval.low < found < interval.high and interval.n == 5
    back, _ = improvement(theirs, ours)
    assert found + back == pytest.approx(1.0)


def test_the_interval_of_improvement_resamples_seeds_within_tasks():
    """Against drawing them one by one."""
    draws = np.random.default_rng(1)
    ours, theirs = draws.normal(0.3, 1.0, size=(3, 5)), draws.normal(0.0, 1.0, size=(3, 5))
    _, interval = improvement(ours.tolist(), theirs.tolist())
    picked = draws.integers(5, size=(2, 1000, 3, 5))
    x, y = (np.take_along_axis(s[None], p, axis=2) for s, p in zip((ours, theirs), picked, strict=True))
    drawn = (x[..., :, None] > y[..., None, :]).mean(axis=(1, 2, 3))
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.04)


def test_few_seeds_have_a_probability_without_an_interval():
    """Two seeds of one task in one model are enough for that."""
    assert improvement([[1.0, 2.0, 3.0], [1.0, 2.0]], [[0.0, 0.0, 0.0]] * 2)[1] is None


def test_differences_of_medians_stand_by_task():
    """With the interval of both models' seeds, and none below three of either."""
    ours = {"a": [0.7, 0.71, 0.72, 0.73, 0.74], "b": [0.5]}
    theirs = {"a": [0.6, 0.61, 0.62, 0.63, 0.64], "b": [0.4, 0.4, 0.4]}
    first, second = compare({"x": ours, "y": theirs})["differences"]
    assert (first["task"], first["model"], first["over"]) == ("a", "x", "y")
    assert first["difference"] == pytest.approx(0.1)
    assert 0.0 < first["interval"]["low"] < 0.1 < first["interval"]["high"]
    assert second["interval"] is None


def test_a_difference_holds_what_the_seeds_of_both_models_allow():
    """Counted out: of the 20 ways in which three and three seeds of two like models lie to one another, one puts all of the
    first above all of the second, and one below: their whole range then misses. From four and four on, 95%."""
    six = [list(chosen) for chosen in itertools.combinations(range(6), 3)]
    missed = [min(ours) > max(set(range(6)) - set(ours)) or max(ours) < min(set(range(6)) - set(ours)) for ours in six]
    assert most_confidence([[0.1, 0.2, 0.3]], [[0.2, 0.3, 0.5]]) == pytest.approx(1 - sum(missed) / len(six)) == 0.9
    (three,) = compare({"x": {"a": [0.7, 0.72, 0.71]}, "y": {"a": [0.6, 0.64, 0.62]}})["differences"]
    assert three["interval"]["confidence"] == pytest.approx(0.9)
    (four,) = compare({"x": {"a": [0.7, 0.72, 0.71, 0.73]}, "y": {"a": [0.6, 0.64, 0.62, 0.61]}})["differences"]
    assert four["interval"]["confidence"] == 0.95


def test_seeds_that_are_all_equal_say_nothing_of_a_spread():
    """Three seeds beside a model that never moves are the interval of one median: 75%."""
    (apart,) = compare({"x": {"a": [0.7, 0.72, 0.71]}, "y": {"a": [0.5, 0.5, 0.5]}})["differences"]
    assert apart["interval"]["confidence"] == bca([0.7, 0.72, 0.71]).confidence == 0.75


def test_an_improvement_in_one_task_holds_no_more_than_its_difference():
    """Three seeds all above three give 1 to 1, which two like models do in one of ten cases; two tasks rarely both."""
    ours, theirs = [[0.7, 0.72, 0.71]], [[0.6, 0.64, 0.62]]
    _, one = improvement(ours, theirs)
    _, two = improvement(ours * 2, theirs * 2)
    assert one is not None and (one.low, one.high, one.confidence) == pytest.approx((1.0, 1.0, 0.9))
    assert two is not None and two.confidence == 0.95


def test_tasks_of_one_model_alone_are_left_out_with_the_reason():
    """Means over different tasks are no comparison."""
    found = compare({"x": {**STEADY, "d": [0.9]}, "y": {**STEADY, "e": [0.9]}, "z": {**STEADY, "d": [0.8]}})
    assert found["tasks"] == ["a", "b", "c"]
    assert found["left_out"] == {"d": "not scored: y", "e": "not scored: x, z"}


def test_nothing_in_common_is_refused():
    """As is a model alone."""
    with pytest.raises(UsageError, match="no task in common"):
        compare({"x": {"a": [0.5]}, "y": {"b": [0.5]}})
    with pytest.raises(UsageError, match="nothing to compare"):
        compare({"x": {"a": [0.5]}})


def test_the_answer_is_json():
    """With no NaN in it, whatever the scores; equal from one call to the next."""
    models = {"x": UNEVEN, "y": {"a": [0.0] * 3, "b": [-0.1] * 3, "c": [0.1, 0.2, 0.3]}}
    assert json.dumps(compare(models), allow_nan=False) == json.dumps(compare(models), allow_nan=False)
