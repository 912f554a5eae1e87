"""What a task's score is without any encoder: the majority answer, the best constant one, and a linear model on a bag of
words."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuday.evaluate.metrics import Predicted, measure
from gpuday.evaluate.tasks.rows import Rows, TaskData

_MOST_FEATURES = 50_000  # the commonest words
_MOST_WEIGHTS = 4_000_000  # of all classes together; the solver holds some twenty copies


def majority(data: TaskData, rows: Rows | None = None) -> float:
    """Main metric on `rows` (dev) of the train set's commonest label, of its mean for regression, of no answer for span."""
    task, rows = data.task, data.dev if rows is None else rows
    guess: Predicted = ("",) * len(rows)
    if task.kind != "span":
        truth, known = _labels(rows), _labels(data.train)
        label = np.mean(known) if task.kind == "regression" else np.argmax(np.bincount(known))
        guess = np.full_like(truth, label)
    return measure(task, rows, guess)[task.main]


def best_constant(data: TaskData, rows: Rows | None = None) -> float:
    """Main metric on `rows` (dev) of the answer that is best by it on train, the same for every row: of F1 it is yes, however
    rare. As `majority` for the kinds whose answers are no classes or candidates."""
    if data.task.kind not in ("classification", "choice"):
        return majority(data, rows)
    task, rows = replace(data.task, metrics=(data.task.main,)), data.dev if rows is None else rows

    def value(on: Rows, answer: int) -> float:
        return measure(task, on, np.full_like(_labels(on), answer))[task.main]

    counts = np.bincount(_labels(data.train))
    return value(
        rows, max(np.flatnonzero(counts).tolist(), key=lambda answer: (value(data.train, answer), counts[answer]))
    )


def bag_of_words(data: TaskData) -> float | None:
    """Main metric on dev of a linear model on the TF-IDF of words with sublinear counts: logistic regression (C = 3), or
    ridge regression (alpha = 1). A word has two letters at least; the 50,000 commonest count, fewer where there are many
    classes. None for the kinds whose rows have not one label each, and where train has no word."""
    if data.task.kind not in ("classification", "regression"):
        return None
    # Imported here: scikit-learn takes a second, and most evaluations do not ask for this baseline.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from threadpoolctl import threadpool_limits

    most = min(_MOST_FEATURES, _MOST_WEIGHTS // max(1, len(data.task.classes)))
    vectorizer, texts = TfidfVectorizer(sublinear_tf=True, max_features=most), _texts(data.train)
    if not any(map(vectorizer.build_analyzer(), texts)):
        return None
    features = vectorizer.fit_transform(texts)
    known = _labels(data.train)
    # One thread: the products are small, and threads that wait for one another took ten times as long on a busy machine.
    with threadpool_limits(1):
        linear = Ridge(alpha=1.0) if data.task.kind == "regression" else LogisticRegression(C=3.0, max_iter=300)
        predicted = linear.fit(features, known).predict(vectorizer.transform(_texts(data.dev)))
    return measure(data.task, data.dev, predicted)[data.task.main]


def _labels(rows: Rows) -> NDArray[Any]:
    assert rows.labels is not None, "train and dev are labelled"
    return rows.labels


def _texts(rows: Rows) -> list[str]:
    if rows.text_b is None:
        return list(rows.text_a)
    return [f"{a} {b}" for a, b in zip(rows.text_a, rows.text_b, strict=True)]
