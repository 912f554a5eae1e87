"""The rows, tables and figures of the comparison with the Trainer; the comparison itself needs a library more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reference import Side, both, losses_beside, scored, scores_beside, shortened, side_by_side, spaced

from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.metrics import METRICS
from gpuday.evaluate.protocols import P1
from gpuday.evaluate.tasks import Rows, Task, TaskData
from tiny_models import write_model


def rows(count: int) -> Rows:
    labels = np.random.default_rng(0).integers(0, 2, count)
    return Rows(text_a=tuple(f"row {i}" for i in range(count)), text_b=None, labels=labels)


def test_a_shortened_task_makes_the_steps_that_were_asked_for() -> None:
    """50 steps in P1's five epochs of batches of 16 are 160 rows, from the first to the last; fewer where there are fewer."""
    task = Task(name="toy", suite="toy", classes=("a", "b"))
    data = TaskData(task=task, train=rows(1000), dev=rows(300), data_hash="", train_rows_available=1000)
    short = shortened(data, P1, 50)
    assert (len(short.train), len(short.dev)) == (160, 256)
    assert (short.train.text_a[0], short.train.text_a[-1]) == ("row 0", "row 999")
    assert len(shortened(data, P1, 10_000).train) == 1000
    assert spaced(rows(5), 3).text_a == ("row 0", "row 2", "row 4")


def test_the_largest_difference_is_found_where_it_is() -> None:
    """Of three steps the second differs most, whatever its sign."""
    ours, theirs = Side(losses=[1.0, 0.5, 0.25], score=0.5), Side(losses=[1.0, 0.75, 0.125], score=0.25)
    figures = losses_beside(ours, theirs)
    assert (figures["steps"], figures["largest_difference"], figures["in_step"]) == (3, 0.25, 2)
    assert (figures["our_score"], figures["their_score"]) == (0.5, 0.25)


def test_the_table_ends_with_the_last_step() -> None:
    """Ten of fifty steps, the first and the last among them; all of three."""
    losses = [float(i) for i in range(50)]
    table = side_by_side(losses, losses)
    assert (len(table), table[0]["step"], table[-1]["step"]) == (10, 1, 50)
    assert [row["step"] for row in side_by_side(losses[:3], losses[:3])] == [1, 2, 3]


def test_scores_are_compared_seed_by_seed() -> None:
    """Medians of both sides, and the mean difference of pairs."""
    sides = [(Side(losses=[], score=a), Side(losses=[], score=b)) for a, b in ((0.5, 0.25), (0.75, 0.75), (0.25, 0.5))]
    figures = scores_beside(sides)
    assert (figures["ours"].median, figures["theirs"].median, figures["mean_difference"]) == (0.5, 0.5, 0.0)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
def test_the_other_side_s_metrics_are_ours(metric: str) -> None:
    """scikit-learn's value of random logits."""
    known, logits = rows(60), np.random.default_rng(1).normal(size=(60, 2))
    assert known.labels is not None
    assert scored(metric, known, logits) == pytest.approx(
        METRICS[metric](known.labels, logits.argmax(axis=1)), abs=1e-12
    )


def test_two_steps_of_the_trainer_are_ours(tmp_path: Path) -> None:
    """The same losses from the same weights, head and batches; where accelerate, which the Trainer needs, is not installed
    there is nothing to compare with."""
    pytest.importorskip("accelerate", reason="the Trainer needs accelerate")
    subject = subject_of_folder(write_model(tmp_path / "bert", "bert"), tmp_path / "scores")
    words = ("the quick zebra", "a mango tree stands", "it is behind the river")
    labels = np.arange(8) % 2
    few = Rows(text_a=tuple(words[i % 3] for i in range(8)), labels=labels)
    task = Task(name="toy", suite="toy", classes=("a", "b"))
    data = TaskData(task=task, train=few, dev=few, data_hash="", train_rows_available=8)
    protocol = replace(P1, dropout=0.0, epochs=2, batch=8, lr=1e-3)
    ours, theirs = both(tmp_path / "bert", subject, data, protocol, 0)
    assert len(ours.losses) == 2 and ours.losses[0] != ours.losses[1]
    assert theirs.losses == pytest.approx(ours.losses, abs=1e-5) and theirs.score == ours.score
