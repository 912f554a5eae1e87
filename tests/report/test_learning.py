"""Learning curves: words for the page, numbers for the charts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.report import learning
from gpuday.report.load import load_run


def test_a_curve_is_a_table_and_a_chart(run: Path) -> None:
    """Hand-written values; a point without an interval leaves a gap there."""
    (curve,) = learning.curves(load_run(run))
    assert (curve.suite, curve.task) == ("pydocs-P1", "package")
    assert curve.points == (
        ("10.0%", "800", "0.550", "\N{EN DASH}", "2"),
        ("100.0%", "8,000", "0.713", "0.700 to 0.720 (percentile)", "3"),
    )
    assert curve.described == "0.550 with 800 training rows; 0.713 with 8,000 training rows"
    assert curve.chart == {
        "rows": [800.0, 8000.0],
        "median": [0.55, 0.7125],
        "low": [None, 0.7],
        "high": [None, 0.72],
        "seed_rows": [800.0, 800.0, 8000.0, 8000.0, 8000.0],
        "seed_values": [0.54, 0.56, 0.7, 0.7125, 0.72],
    }


@pytest.mark.parametrize("curves", [None, "x", {"a": None}, {"a": ["x", 1]}, {"a": []}])
def test_what_is_no_curve_is_stepped_over(new_run: Callable[..., Path], curves: Any) -> None:
    """A summary may have been written by hand."""
    run = new_run(summary={"scores": {"glue-P1": {"tasks": {}, "curves": curves}}})
    assert learning.curves(load_run(run)) == []


def test_only_numbers_reach_a_chart(new_run: Callable[..., Path]) -> None:
    """Text, NaN and truth values where numbers belong become gaps, or no seed."""
    point = {"rows": "many", "median": True, "interval": {"low": "<b>", "high": 0.5}, "values": ["x", 0.5, None]}
    run = new_run(
        summary={"scores": {"glue-P1": {"tasks": {}, "curves": {"a": [point, {"rows": 5, "values": [0.25, "y"]}]}}}}
    )
    (curve,) = learning.curves(load_run(run))
    assert curve.chart == {
        "rows": [None, 5.0], "median": [None, None], "low": [None, None], "high": [0.5, None],
        "seed_rows": [5.0], "seed_values": [0.25],
    }  # fmt: skip
    json.dumps(curve.chart, allow_nan=False)
