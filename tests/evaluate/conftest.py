"""A run that was never trained: random weights, a tokenizer made from a few lines, its own folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gpuday.core.clock import Budget
from gpuday.core.rundir import RunDir
from gpuday.data.document import Document, DropCounter
from gpuday.data.prepare import DataConfig
from gpuday.data.tokenizer import TextTokenizer, train_tokenizer
from gpuday.data.words import write_words
from gpuday.evaluate.subject import Subject, subject_of_run
from gpuday.evaluate.tasks import Rows, Task, TaskData
from gpuday.models.encoder import EncoderConfig
from gpuday.models.heads import MaskedLM
from gpuday.models.init import initialise
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain
from gpuday.recipe import Recipe
from gpuday.train.trained import Trained

LENGTH = 32
LINES = [
    "the quick brown zebra jumps over the lazy river while many people watch from the bridge",
    "a mango tree stands behind the yellow house and its fruit falls into the garden",
    "engineers measure the voltage of every circuit before they connect the battery",
    "the committee will publish its final report about the harbour in the autumn",
]


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return train_tokenizer(iter(LINES * 20), kind="bpe", normalizer="light", vocab=384)[0]


@pytest.fixture
def trained(tokenizer: TextTokenizer, tmp_path: Path) -> Trained:
    config = EncoderConfig(width=32, shape=Plain(layers=1), mixer=Softmax(head_width=16))
    recipe = Recipe(
        preset="toy",
        size="toy",
        budget=Budget.parse("1steps"),
        data=DataConfig(vocab=384, length=LENGTH),
        model=config,
    )
    model = MaskedLM(config, vocab=tokenizer.vocab_size, length=LENGTH)
    initialise(model, config, 0)
    run = RunDir(tmp_path / "run")
    run.data.mkdir(parents=True)
    return Trained(recipe, model.eval(), tokenizer, run, torch.device("cpu"))


@pytest.fixture
def subject(trained: Trained) -> Subject:
    """What is fine-tuned of that run."""
    return subject_of_run(trained)


@pytest.fixture
def held_out(trained: Trained) -> Trained:
    """The run with held-out words of two sources."""
    documents = [Document(LINES[i % 4], f"{i}", "ab"[i % 2], f"g{i}") for i in range(200)]
    write_words(
        trained.run.data / "heldout.words",
        documents,
        trained.tokenizer,
        length=LENGTH,
        cls=False,
        sep=True,
        drops=DropCounter(),
    )
    return trained


def toy_rows(count: int, seed: int) -> Rows:
    """Texts that name a zebra (1) or a mango (0) among other words."""
    draw = np.random.default_rng(seed)
    words = sorted({w for line in LINES for w in line.split()} - {"zebra", "mango"})
    labels = draw.integers(0, 2, count)
    texts = []
    for label in labels:
        text = draw.choice(words, int(draw.integers(2, 6))).tolist()
        text.insert(int(draw.integers(len(text))), ("mango", "zebra")[label])
        texts.append(" ".join(text))
    return Rows(text_a=tuple(texts), text_b=None, labels=labels.astype(np.int64))


@pytest.fixture
def toy_data() -> TaskData:
    task = Task(name="toy", suite="toy", classes=("mango", "zebra"), metrics=("accuracy", "f1"))
    train = toy_rows(200, 0)
    return TaskData(task=task, train=train, dev=toy_rows(60, 1), data_hash="0", train_rows_available=len(train))


@pytest.fixture
def other_data(toy_data: TaskData) -> TaskData:
    """Another task, a regression on pairs, with fewer rows."""
    task = Task(name="other", suite="toy", kind="regression", pair=True, metrics=("pearson", "spearman"))
    parts = [replace(r, text_b=r.text_a[::-1], labels=5.0 * r.labels) for r in (toy_data.train, toy_data.dev)]
    train = parts[0].take(np.arange(80))
    return TaskData(task=task, train=train, dev=parts[1], data_hash="1", train_rows_available=80)
