"""Learning curves, and what makes two of them comparable."""

import numpy as np
import pytest

from gpuday.evaluate.curves import Point, curves
from gpuday.evaluate.plan import Plan
from gpuday.evaluate.protocols import P1, P1_SHORT
from gpuday.evaluate.tasks import Rows, Task, TaskData


def points(task, fraction, rows, *values):
    return [Point(task=task, fraction=fraction, rows=rows, value=value) for value in values]


def test_a_curve_goes_from_few_rows_to_many():
    """Median, seeds and interval at each fraction, whatever the order in which they were made."""
    found = curves(
        [*points("a", 1.0, 100, 0.9, 0.8, 0.85), *points("a", 0.1, 10, 0.6, 0.5), *points("a", 0.5, 50, 0.7)]
    )
    assert [(p["fraction"], p["rows"], p["n"]) for p in found["a"]] == [(0.1, 10, 2), (0.5, 50, 1), (1.0, 100, 3)]
    assert [p["median"] for p in found["a"]] == [0.55, 0.7, 0.85]
    assert [p["interval"] is None for p in found["a"]] == [True, True, False]
    assert (found["a"][2]["interval"]["low"], found["a"][2]["interval"]["high"]) == (0.8, 0.9)
    assert found["a"][2]["values"] == [0.9, 0.8, 0.85]


def test_one_fraction_is_no_curve():
    """The other tasks' curves are not held up by it."""
    found = curves([*points("whole", 1.0, 100, 0.9), *points("both", 1.0, 100, 0.9), *points("both", 0.5, 50, 0.8)])
    assert list(found) == ["both"]


@pytest.mark.parametrize("protocol", [P1, P1_SHORT], ids=lambda protocol: protocol.name)
def test_a_share_names_the_same_rows_for_every_model_and_seed(protocol):
    """What makes two curves comparable: the rows depend on the task and the share alone, and those of a smaller share are
    among those of a larger one; under a cap too."""
    numbers = tuple(map(str, range(9000)))
    rows = Rows(text_a=numbers, labels=np.zeros(9000, dtype=np.int64))
    data = TaskData(
        task=Task(name="toy", suite="toy", classes=("a", "b")),
        train=rows,
        dev=rows.take(np.arange(3)),
        data_hash="",
        train_rows_available=9000,
    )
    models = [Plan(data=(data,), protocol=protocol, seeds=seeds) for seeds in (1, 5)]
    whole = min(9000, protocol.rows or 9000)
    larger = set(numbers)
    for fraction in (1.0, 0.5, 0.25, 0.01):
        first, second = ([*plan.part(data, fraction).train.text_a] for plan in models)
        assert first == second and len(first) == round(fraction * whole)
        assert set(first) <= larger
        larger = set(first)
