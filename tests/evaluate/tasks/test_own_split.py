import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuday.core.errors import DataError
from gpuday.evaluate.tasks import Rows, Task
from gpuday.evaluate.tasks.own_split import dev_rows

TASK = Task(name="x", suite="own", classes=("a", "b", "c"))


def split(texts: list[str], labels: list[int]) -> np.ndarray:
    return dev_rows(Rows(text_a=tuple(texts), labels=np.array(labels, dtype=np.int64)), TASK)


def test_a_tenth_of_every_class_is_dev() -> None:
    """Of ninety rows of one class and ten of another, nine and one."""
    dev = split([f"t{i}" for i in range(100)], [0] * 90 + [1] * 10)
    assert (dev[:90].sum(), dev[90:].sum()) == (9, 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=4, max_size=40), st.randoms())
def test_the_split_is_fair_whatever_the_rows(pairs: list[tuple[int, int]], random) -> None:
    """No text on both sides, no label in dev that train lacks, and the same rows in whatever order they come."""
    texts, labels = [f"t{text}" for text, _ in pairs], [label for _, label in pairs]
    try:
        dev = split(texts, labels)
    except DataError:
        return
    sides = [{t for t, d in zip(texts, dev, strict=True) if d == side} for side in (True, False)]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert {y for y, d in zip(labels, dev, strict=True) if d} <= {y for y, d in zip(labels, dev, strict=True) if not d}
    order = list(range(len(pairs)))
    random.shuffle(order)
    again = split([texts[i] for i in order], [labels[i] for i in order])
    assert {texts[i] for i, d in zip(order, again, strict=True) if d} == sides[0]


def test_questions_of_one_context_stay_together() -> None:
    """A span is split by its contexts, a pair by both texts."""
    rows = Rows(
        text_a=tuple(f"q{i}" for i in range(40)), text_b=tuple(f"c{i // 4}" for i in range(40)),
        labels=np.zeros((40, 2), dtype=np.int64),
    )  # fmt: skip
    dev = dev_rows(rows, Task(name="x", suite="own", kind="span"))
    assert dev.reshape(10, 4).sum(axis=1).tolist().count(4) == 1
    assert dev.sum() == 4
    pairs = Rows(text_a=("a",) * 20, text_b=tuple(map(str, range(20))), labels=np.zeros(20))
    assert dev_rows(pairs, Task(name="x", suite="own", kind="regression", pair=True)).sum() == 2


def test_a_premise_is_on_one_side() -> None:
    """Of pairs the first text counts, three rows each, whatever the second."""
    rows = Rows(
        text_a=tuple(f"premise {i // 3}" for i in range(300)), text_b=tuple(f"h{i}" for i in range(300)),
        labels=np.arange(300) % 3,
    )  # fmt: skip
    dev = dev_rows(rows, Task(name="x", suite="own", classes=("a", "b", "c"), pair=True))
    assert dev.sum() == 30
    assert all(len(set(three)) == 1 for three in dev.reshape(100, 3).tolist())


def test_texts_that_differ_in_case_and_blanks_are_one() -> None:
    """Each of a hundred texts three times: whichever way it is written, all three are on one side."""
    written = [(f"Text {i}", f"text  {i} ", f"TEXT\t{i}") for i in range(100)]
    dev = split([text for three in written for text in three], [0] * 300)
    assert dev.sum() == 30 and all(len(set(three)) == 1 for three in dev.reshape(100, 3).tolist())


@pytest.mark.parametrize("name", [f"ok{k}" for k in range(10)])
def test_a_text_of_most_rows_trains(name: str) -> None:
    """Whatever its hash: of a hundred rows beside it, a tenth are dev, of each class; where it and one other text are all
    that a class has, the other one."""
    dev = split([name] * 900 + [f"text {i}" for i in range(100)], [0, 1] * 500)
    assert (dev[:900].sum(), dev[900::2].sum(), dev[901::2].sum()) == (0, 5, 5)
    assert split([name] * 9 + ["other"], [0] * 10).tolist() == [False] * 9 + [True]


@pytest.mark.parametrize(
    ("texts", "labels", "message"), [(["a"] * 4, [0] * 4, "same text"), (["a", "b"], [0, 1], "no class has two")]
)
def test_rows_that_leave_nothing_for_dev_are_refused(texts: list[str], labels: list[int], message: str) -> None:
    """The fix names --dev or the column."""
    with pytest.raises(DataError, match=message):
        split(texts, labels)
