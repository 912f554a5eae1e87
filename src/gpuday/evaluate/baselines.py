"""What a task's score is without any encoder: the majority answer, and a linear model on a bag of words."""

import numpy as np
from numpy.typing import NDArray

from gpuday.evaluate.metrics import METRICS
from gpuday.evaluate.tasks.rows import Rows, TaskData


def majority(data: TaskData) -> float:
    """Main metric on dev of the train set's commonest label, or of its mean for regression."""
    truth = data.dev.labels
    if data.task.kind == "regression":
        guess: float = float(np.mean(data.train.labels))
    else:
        guess = int(np.argmax(np.bincount(data.train.labels, minlength=data.task.outputs)))
    return METRICS[data.task.main](truth, np.full_like(truth, guess))


def bag_of_words(data: TaskData) -> float:
    """Main metric on dev of logistic regression (C = 3) on the TF-IDF of words with sublinear counts."""
    # Imported here: scikit-learn takes a second, and most evaluations do not ask for this baseline.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    vectorizer = TfidfVectorizer(sublinear_tf=True)
    features = vectorizer.fit_transform(_texts(data.train))
    # One thread: the products are small, and threads that wait for one another took ten times as long on a busy machine.
    with threadpool_limits(1):
        model = LogisticRegression(C=3.0, max_iter=300).fit(features, data.train.labels)
    predicted: NDArray[np.int64] = model.predict(vectorizer.transform(_texts(data.dev)))
    return METRICS[data.task.main](data.dev.labels, predicted)


def _texts(rows: Rows) -> list[str]:
    if rows.text_b is None:
        return list(rows.text_a)
    return [f"{a} {b}" for a, b in zip(rows.text_a, rows.text_b, strict=True)]
