"""How long it will take: counted in work, since fine-tunings differ in length."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpuday.evaluate.course import Course, Size
from gpuday.evaluate.protocols import P1
from gpuday.evaluate.tasks import Rows, Task, TaskData


class Clock:
    """Seconds, set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_left_follows_from_the_pace_so_far() -> None:
    """Ten seconds for a tenth of the work: ninety more, less what is skipped."""
    clock, told = Clock(), list[dict[str, Any]]()
    course = Course(100.0, lambda _, **values: told.append(values), now=clock)
    course.begin(10.0)
    clock.now = 4.0
    course("epoch", task="a", seconds_left=6.0)
    assert told == [{"task": "a", "left": pytest.approx(6.0 + 90.0)}]
    clock.now = 10.0
    course.end()
    course.skip(40.0)
    course.begin(10.0)
    clock.now = 15.0
    course("epoch", task="b", seconds_left=5.0)
    assert told[-1]["left"] == pytest.approx(5.0 + 40.0)
    course("score", value=0.5)
    assert told[-1] == {"value": 0.5}


def test_nobody_who_listens_is_no_fault() -> None:
    """Events go nowhere."""
    Course(1.0, None)("epoch", seconds_left=1.0)


def test_the_work_of_a_task_is_what_is_read() -> None:
    """Characters of the train rows times the epochs, and a third of those of dev; of a choice its text once for each option."""
    rows = Rows(text_a=("four", "seven77"), text_b=("x", "y"), labels=np.array([0, 1]))
    data = TaskData(
        task=Task(name="a", suite="b", classes=("0", "1"), pair=True),
        train=rows,
        dev=rows,
        data_hash="",
        train_rows_available=2,
    )
    assert Size.of(data).work(P1) == pytest.approx(5 * 13 + 0.33 * 13)
    assert Size.of(data).work(replace(P1, epochs=1)) == pytest.approx(1.33 * 13)
    choice = replace(data, train=Rows(text_a=("ab", "c"), labels=rows.labels, options=(("1", "22"), ("3", "4"))))
    assert Size.of(choice).work(replace(P1, epochs=1)) == pytest.approx(2 * 2 + 3 + 2 + 2 + 0.33 * 13)
