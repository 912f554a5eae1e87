"""Means over tasks, by hand and against scipy's."""

import pytest
from scipy import stats

from gpuday.core.errors import UsageError
from gpuday.evaluate.aggregates import MEANS, TaskScore, aggregates, counted

# Table of Geiping & Goldstein's model card for their second version, as shares; their mean of nine is 80.7.
CRAMMED = {
    "MNLI": 0.841, "MNLI-mm": 0.846, "SST-2": 0.92, "STS-B": 0.874, "RTE": 0.585, "QNLI": 0.902, "QQP": 0.875,
    "MRPC": 0.889, "CoLA": 0.533,
}  # fmt: skip


def scores(values):
    return {task: TaskScore(value=value) for task, value in values.items()}


def test_a_published_mean_is_found_again():
    """MNLI twice, as there; once, it is another number."""
    assert aggregates(scores(CRAMMED), mnli="twice")["arithmetic"]["value"] == pytest.approx(0.807, abs=0.0005)
    once = aggregates(scores(CRAMMED))
    assert once["tasks"] == [task for task in CRAMMED if task != "MNLI-mm"]
    assert once["arithmetic"]["value"] == pytest.approx((0.807 * 9 - 0.846) / 8, abs=0.001)


def test_geometric_and_harmonic_means_are_scipys():
    """Over the eight."""
    values = [value for task, value in CRAMMED.items() if task != "MNLI-mm"]
    found = aggregates(scores(CRAMMED))
    assert found["geometric"]["value"] == pytest.approx(stats.gmean(values), rel=1e-12)
    assert found["harmonic"]["value"] == pytest.approx(stats.hmean(values), rel=1e-12)


def test_a_task_at_zero_makes_two_means_zero_and_is_named():
    """CoLA of a model that answers one class: both means go to 0 in the limit, and stay there below."""
    for value in (0.0, -0.02):
        found = aggregates(scores({"CoLA": value, "RTE": 0.5}))
        assert (found["geometric"]["value"], found["harmonic"]["value"]) == (0.0, 0.0)
        assert found["not_positive"] == ["CoLA"]
        assert found["geometric"]["without"]["CoLA"] == {"value": pytest.approx(0.5), "change": pytest.approx(0.5)}


def test_scores_are_normalised_between_chance_and_the_reference():
    """By hand: (0.75 - 0.5) / (0.9 - 0.5) and (0.3 - 0) / (0.6 - 0); a task without a mark is left out and named."""
    table = {
        "a": TaskScore(value=0.75, chance=0.5, reference=0.9),
        "b": TaskScore(value=0.3, chance=0.0, reference=0.6),
        "c": TaskScore(value=0.99, chance=0.5),
    }
    found = aggregates(table)
    assert found["normalised"]["value"] == pytest.approx((0.625 + 0.5) / 2)
    assert found["without_marks"] == ["c"]
    assert found["normalised"]["without"]["b"]["value"] == pytest.approx(0.625)
    assert found["normalised"]["without"]["c"]["change"] == pytest.approx(0.0)


def test_without_any_mark_there_is_no_normalised_mean():
    """None, not 0; nor does a reference at chance divide by nothing."""
    table = {"a": TaskScore(value=0.7, chance=0.5, reference=0.5), "b": TaskScore(value=0.7, reference=0.9)}
    found = aggregates(table)
    assert found["normalised"] == {"value": None, "without": {key: {"value": None, "change": None} for key in "ab"}}
    assert found["without_marks"] == ["a", "b"]


def test_every_task_is_left_out_in_turn():
    """The mean of the others, and how far it moved."""
    found = aggregates(scores({"a": 0.2, "b": 0.4, "c": 0.9}))["arithmetic"]
    assert found["value"] == pytest.approx(0.5)
    assert {task: one["value"] for task, one in found["without"].items()} == pytest.approx(
        {"a": 0.65, "b": 0.55, "c": 0.3}
    )
    assert found["without"]["c"]["change"] == pytest.approx(-0.2)


def test_mnli_leaves_with_both_its_dev_sets():
    """Counted twice, it is one task all the same."""
    found = aggregates(scores({"MNLI": 0.8, "MNLI-mm": 0.9, "RTE": 0.5}), mnli="twice")["arithmetic"]
    assert set(found["without"]) == {"MNLI", "RTE"}
    assert found["without"]["MNLI"]["value"] == pytest.approx(0.5)
    assert found["without"]["RTE"]["value"] == pytest.approx(0.85)


@pytest.mark.parametrize("mnli", ["once", "twice"])
def test_what_no_mean_may_count_is_counted_by_none(mnli):
    """WNLI, whose dev set is adversarial, and the diagnostic sets."""
    assert counted(["CoLA", "WNLI", "AX", "AX-b", "AX-g"], mnli) == ["CoLA"]


def test_mnli_cannot_count_twice_without_its_second_dev_set():
    """Which is said; a suite without MNLI has nothing to count twice."""
    with pytest.raises(UsageError, match="MNLI-mm was not scored"):
        counted(["MNLI", "RTE"], "twice")
    assert counted(["BoolQ"], "twice") == ["BoolQ"]


def test_one_task_alone_cannot_be_left_out():
    """And no task at all has no mean."""
    assert aggregates(scores({"a": 0.5}))["arithmetic"] == {"value": 0.5, "without": {}}
    nothing = aggregates({})
    assert [nothing[kind]["value"] for kind in MEANS] == [None] * 4
