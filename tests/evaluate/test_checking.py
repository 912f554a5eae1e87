import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpuday.core.errors import DataError, GpudayError, UsageError
from gpuday.evaluate.checking import check, check_data, longest_row
from gpuday.evaluate.protocols import P1
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.tasks import Task, TaskData
from gpuday.evaluate.tasks.task import Kind
from toy_tasks import toy


def changed(kind: Kind, part: str, **fields: Any) -> TaskData:
    """A task of the kind whose train or dev rows have other fields."""
    data = toy(kind)
    rows = getattr(data, part)
    return replace(data, **{part: replace(rows, **{k: v(rows) if callable(v) else v for k, v in fields.items()})})


@pytest.mark.parametrize("kind", ["classification", "regression", "choice", "tagging", "span"])
def test_a_whole_task_is_let_through(subject: Subject, kind: Kind) -> None:
    """Every kind, its unlabelled test rows included."""
    data = toy(kind)
    check(subject, replace(data, test={data.task.name: replace(data.dev, labels=None)}), P1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: changed("classification", "train", labels=None), "words, train: the rows have no labels"),
        (lambda: changed("classification", "dev", labels=None), "words, dev: the rows have no labels"),
        (lambda: changed("classification", "dev", labels=lambda r: r.labels + 1), "reach from 1 to 2"),
        (lambda: changed("classification", "train", labels=lambda r: 0 * r.labels), "all rows are of one class"),
        (lambda: changed("classification", "train", labels=lambda r: r.labels[1:]), r"48 rows have labels of shape \(47,\)"),
        (lambda: changed("classification", "dev", text_a=lambda r: (r.text_a[0], " ", *r.text_a[2:])), "row 2 has no text"),
        (lambda: changed("regression", "train", labels=lambda r: r.labels * np.nan), "not a finite number"),
        (lambda: changed("regression", "train", labels=lambda r: 0 * r.labels), "all labels are equal"),
        (lambda: changed("choice", "train", options=None), "no candidates"),
        (lambda: changed("choice", "dev", options=lambda r: (("a", "b"), *r.options[1:])), "row 1 has 2 candidates, not 3"),
        (lambda: changed("tagging", "train", words=None), "not split into words"),
        (lambda: changed("tagging", "dev", words=lambda r: ((), *r.words[1:])), "row 1 has no words"),
        (lambda: changed("tagging", "dev", labels=lambda r: r.labels[1:]), r"words have \d+ tags"),
        (lambda: changed("span", "train", text_b=None), "no contexts"),
        (lambda: changed("span", "train", labels=lambda r: r.labels * 0 - 1), "no train row has an answer"),
        (lambda: changed("span", "dev", answers=None), "dev: the dev rows have no answers"),
        (lambda: replace(toy("span"), train=toy("span").train.take(np.arange(15))), "15 train rows, fewer than a batch"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_named(subject: Subject, data: Any, said: str) -> None:
    """Before anything is trained, with the part, the fault and the fix."""
    with pytest.raises(DataError) as raised:
        check(subject, data(), P1)
    assert_said(raised.value, said)


def assert_said(error: GpudayError, said: str) -> None:
    """The error says it, behind its place, and how to mend it."""
    assert re.search(said, f"{error.where}: {error.what}")
    assert error.fix


def test_a_class_may_be_missing_where_rows_were_capped(subject: Subject) -> None:
    """A part of the rows may have lost a rare class; whole files that lack one are at fault."""
    data = toy("classification")
    data = replace(data, task=replace(data.task, classes=("mango", "zebra", "river")))
    with pytest.raises(DataError, match="no row is of class 'river'"):
        check(subject, data, P1)
    check(subject, replace(data, train_rows_available=1000), P1)


def test_a_companion_must_suit_the_head(subject: Subject) -> None:
    """Rows of three classes cannot be answered by a head for two."""
    data, other = toy("classification"), Task(name="more", suite="toy", classes=("a", "b", "c"))
    data = replace(data, task=replace(data.task, companions=(other,)), companions={"more": data.dev})
    with pytest.raises(UsageError, match="3 outputs, the head of words is a classification with 2"):
        check(subject, data, P1)


def test_a_subject_must_take_rows_with_text(subject: Subject) -> None:
    """Rows of seven tokens have next to no room beside the special ones."""
    with pytest.raises(UsageError, match="rows of 7 tokens"):
        check(replace(subject, length=7), toy("classification"), P1)
    assert longest_row(replace(subject, length=7), P1) == 7
    assert longest_row(replace(subject, length=512), P1) == P1.max_tokens


def test_metrics_of_groups_need_them() -> None:
    """Of the task and of its companions, before anything is trained."""
    data = toy("classification")
    pairs = Task(name="pairs", suite="toy", classes=data.task.classes, metrics=("accuracy", "gender_parity"))
    data = replace(data, task=replace(data.task, companions=(pairs,)), companions={"pairs": data.dev})
    with pytest.raises(DataError, match="pairs is scored by groups"):
        check_data(data, P1)
    grouped = replace(data.dev, groups=tuple(str(i // 2) for i in range(len(data.dev))))
    check_data(replace(data, companions={"pairs": grouped}), P1)
