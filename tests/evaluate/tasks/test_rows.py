from dataclasses import replace

import numpy as np

from gpuday.evaluate.tasks.rows import Rows, TaskData, cap_rows
from gpuday.evaluate.tasks.task import Task


def test_a_cap_takes_the_same_rows_each_time_and_keeps_dev() -> None:
    """A subset in file order, not the head of the file; a cap above the rows changes nothing."""
    task = Task(name="CoLA", suite="glue", classes=("a", "b"))
    rows = Rows(text_a=tuple(f"row {i}" for i in range(100)), labels=np.arange(100) % 2)
    data = TaskData(task=task, train=rows, dev=rows, data_hash="", train_rows_available=100)
    capped = cap_rows(data, 20)
    numbers = [int(text.split()[1]) for text in capped.train.text_a]
    assert numbers == sorted(set(numbers))
    assert numbers != list(range(20))
    assert capped.train.labels.tolist() == [n % 2 for n in numbers]
    assert cap_rows(data, 20).train.text_a == capped.train.text_a
    assert (capped.capped, len(capped.dev), capped.train_rows_available) == (True, 100, 100)
    assert cap_rows(data, 100) is data
    assert cap_rows(replace(data, train=data.train.take(np.arange(5))), None).train.text_a == data.train.text_a[:5]


def test_rows_of_every_kind_are_taken_whole() -> None:
    """Whatever a row has goes with it, and a tagging's labels by the words of the row."""
    tagged = Rows(text_a=("a b", "c", "d e f"), labels=np.arange(6), words=(("a", "b"), ("c",), ("d", "e", "f")))
    taken = tagged.take(np.array([2, 0]))
    assert (taken.labels.tolist(), taken.words) == ([3, 4, 5, 0, 1], (("d", "e", "f"), ("a", "b")))
    assert tagged.take(np.array([], dtype=np.int64)).labels.shape == (0,)
    spans = Rows(
        text_a=("q", "r"), text_b=("c", "d"), labels=np.array([[0, 1], [-1, -1]]), answers=(("c",), ()), ids=("1", "2"),
        groups=("g", "h"), options=(("x",), ("y",)),
    )  # fmt: skip
    second = spans.take(np.array([1]))
    assert (second.labels.tolist(), second.answers, second.ids) == ([[-1, -1]], ((),), ("2",))
    assert (second.groups, second.options, second.text_b) == (("h",), (("y",),), ("d",))
    assert replace(spans, labels=None).take(np.array([0])).labels is None
