"""Models that were fine-tuned on the toy task of a kind, and kept."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpuday.evaluate.finetune import Finetuned, Outcome, finetune
from gpuday.evaluate.pooling import pooling_for
from gpuday.evaluate.protocols import Protocol
from gpuday.evaluate.scorefile import Score, hyperparameters
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.tasks.rows import TaskData
from gpuday.evaluate.tasks.task import Kind
from gpuday.export.finetuned import head_for, keep
from gpuday.models.downstream import Head, Pooling
from toy_tasks import toy

LENGTH = 24  # tokens of the longest row
SHORT = Protocol(epochs=1, batch=4, lr=1e-3, max_tokens=LENGTH)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A fine-tuned model that was kept, and what it was made of."""

    folder: Path
    section: dict[str, Any]
    tuned: Finetuned
    data: TaskData
    score: Score


def keep_one(
    folder: Path,
    subject: Subject,
    kind: Kind,
    head: Head | None = None,
    pooling: Pooling | None = None,
    suite: str = "toy",
) -> Kept:
    """Fine-tune on the toy task of a kind, under the head that fits unless one is given, and keep the model."""
    data, protocol = toy(kind, train=12, dev=9), replace(SHORT, pooling=pooling)
    data = replace(data, task=replace(data.task, suite=suite))
    protocol = replace(protocol, head=head or head_for(subject, pooling_for(subject, data.task, protocol)))
    tuned = finetune(subject, data, protocol)
    score = score_of(subject, data, protocol, tuned.outcome)
    section = keep(tuned, subject, data, protocol, score, folder)
    return Kept(folder=folder, section=section, tuned=tuned, data=data, score=score)


def score_of(subject: Subject, data: TaskData, protocol: Protocol, outcome: Outcome) -> Score:
    """The record of seed 0."""
    return Score(
        task=data.task.name,
        version=1,
        suite=data.task.suite,
        kind=data.task.kind,
        protocol=protocol.name,
        hyperparameters=hyperparameters(protocol),
        chosen={},
        seed=0,
        fraction=1.0,
        metric=data.task.main,
        value=outcome.metrics[data.task.main],
        metrics=outcome.metrics,
        interval=None,
        baseline={"majority": 0.25},
        train_rows=len(data.train),
        train_rows_available=len(data.train),
        dev_rows=len(data.dev),
        longest_row=LENGTH,
        unread_words=0,
        partial=False,
        train_loss=outcome.train_loss,
        steps=outcome.steps,
        seconds=outcome.seconds,
        examples_per_second=outcome.examples_per_second,
        dtype=outcome.dtype,
        device="cpu",
        data_hash=data.data_hash,
        model_hash=subject.model_hash,
        start=None,
        pooling=pooling_for(subject, data.task, protocol),
        subject=subject.name,
        subject_kind=subject.kind,
        recipe_fingerprint=subject.recipe_fingerprint,
        environment={},
        package_version="0",
    )
