"""The GPU benchmarks' pure parts, and that their script names the parts there are."""

from collections.abc import Sequence
from pathlib import Path

import gpu_needs
import pytest
from gpu_runs import without_gap

import gpu
from gpuday.core.journal import Step

FOLDER = Path(gpu.__file__).parent


def steps(firsts: Sequence[int]) -> list[Step]:
    """Steps of four rows that begin at these rows."""
    return [
        Step(
            step=i + 1,
            seconds=0.0,
            step_seconds=0.0,
            compiled_anew=False,
            fraction=0.0,
            multiplier=1.0,
            rows=4,
            first_row=first,
            masked=0,
            loss=0.0,
            gradient_norm=0.0,
            tokens=0,
            flops=0.0,
        )
        for i, first in enumerate(firsts)
    ]


@pytest.mark.parametrize(("firsts", "whole"), [((0, 4, 8), True), ((0, 8), False), ((0, 4, 4), False), ((), False)])
def test_a_gap_or_an_overlap_of_rows_is_noticed(firsts: tuple[int, ...], whole: bool) -> None:
    """The resumed run must read on where the surviving steps ended."""
    assert whole is without_gap(steps(firsts))


def test_the_script_names_every_part() -> None:
    """`benchmarks/gpu.sh` lists in its head what `gpu.py` can do."""
    head = (FOLDER / "gpu.sh").read_text().split("set -euo")[0]
    assert [name for name in gpu.PARTS if name not in head] == []


def test_every_small_dependency_has_its_wheel() -> None:
    """What is looked for on the bare machine is what `gpu.sh wheels` collects."""
    line = (FOLDER / "gpu.sh").read_text()
    assert [w for w in gpu_needs.WHEELS.values() if w.replace("_", "-") not in line] == []


def test_spreads_become_medians_in_the_line() -> None:
    """One JSON line holds numbers, all the way down."""
    assert {"a": {"b": 2.0}, "c": "bf16"} == gpu.plain({"a": {"b": gpu.Spread(2.0, 1.0, 3.0, 3)}, "c": "bf16"})
