"""Fine-tuning speed beside the Hugging Face Trainer: examples a second over one epoch of rows of unlike length.

Ours is `evaluate/finetune.py` under P1 (batches of 16 rows of like length), once on an encoder of ours and once on their
model with the same weights; theirs is `Trainer.train()` with the padding collator as it comes. Rows have 8 to 96 tokens,
most of them short, as GLUE's have. Epochs of all of them alternate; loading and scoring are outside of the times.
"""

import copy
import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Record, Spread, need, parser
from peer_trainer import build_config, mask_tokenizer
from torch import nn
from workload import Workload, random_rows, workload

from gpuday.evaluate.buckets import Encoded
from gpuday.evaluate.encoding import Asked, EncodedTask
from gpuday.evaluate.finetune import finetune
from gpuday.evaluate.huggingface import HuggingFaceBody
from gpuday.evaluate.protocols import P1
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.tasks.rows import Rows, TaskData
from gpuday.evaluate.tasks.task import Task
from gpuday.models.encoder import Encoder
from gpuday.train.assemble import make_model
from gpuday.train.device import configure, pick_device, synchronise

LONGEST, SCORED = 96, 8  # tokens of a row; rows that are scored after the epoch, outside of the time
ARMS = {"bert fp32": ("bert", False), "bert bf16": ("bert", True), "modernbert bf16": ("modernbert", True)}
TASK = Task(name="random", suite="benchmark", classes=("a", "b"))
MakeBody = Callable[[float, torch.dtype], nn.Module]


def main() -> None:
    """Time each size against each setting."""
    arguments = parser(__doc__, sizes="nano,micro").parse_args()
    need("accelerate", "the Hugging Face Trainer")
    record = Record("finetune", arguments.out)
    steps, rounds = (10, 3) if arguments.quick else (20, 5)
    device = pick_device()
    configure(device)
    for size in arguments.sizes[: 1 if arguments.quick else None]:
        work = workload(size)
        rows = make_rows(steps * P1.batch, work.vocab, device)
        for name, (kind, bf16) in ARMS.items():
            model = _classifier(kind, work)
            seconds = {
                "theirs": partial(trainer_epoch, model, work, rows, bf16=bf16),
                "ours": partial(our_seconds, work, rows, device, own_body(work, device)),
                "same_weights": partial(our_seconds, work, rows, device, their_body(model, device)),
            }
            shape = {**work.shape(), "batch": P1.batch, "examples": len(rows), "longest": LONGEST}
            record.add(f"{size} {name}", shape=shape, figures=alternating(seconds, rounds, steps * P1.batch))
    record.table()


def alternating(seconds: Mapping[str, Callable[[], float]], rounds: int, examples: int) -> dict[str, Any]:
    """Examples/s of each and its ratio to theirs, over alternating epochs after one of each to warm up."""
    found: dict[str, list[float]] = {name: [] for name in seconds}
    for _ in range(rounds + 1):
        for name, epoch in seconds.items():
            found[name].append(epoch())
    spreads = {name: Spread.of(values[1:]) for name, values in found.items()}
    rates = {f"{name}_examples_per_second": spread.rate(examples) for name, spread in spreads.items()}
    theirs = spreads["theirs"].median
    return rates | {f"{name}_ratio": theirs / spreads[name].median for name in seconds if name != "theirs"}


def make_rows(count: int, vocab: int, device: torch.device) -> Encoded:
    """Random rows of two classes, their lengths drawn from a log-normal around 25."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(3.2, 0.6, count).astype(np.int64), 8, LONGEST)
    ids = torch.from_numpy(random_rows(count, LONGEST, vocab).astype(np.int32))
    labels = torch.from_numpy(draw.integers(0, 2, count))
    on_device = torch.from_numpy(lengths).to(device)
    return Encoded(ids=ids.to(device), lengths=on_device, host_lengths=lengths, labels=labels.to(device))


def own_body(work: Workload, device: torch.device) -> MakeBody:
    """New encoders of the workload's recipe."""
    source = make_model(work.recipe, vocab=work.vocab).encoder

    def make(dropout: float, dtype: torch.dtype) -> nn.Module:
        config = dataclasses.replace(source.config, dropout=dropout)
        encoder = Encoder(config, vocab=source.vocab, length=source.length)
        encoder.load_state_dict(source.state_dict())
        encoder.dtype = dtype
        return encoder.to(device)

    return make


def their_body(model: Any, device: torch.device) -> MakeBody:
    """Copies of their encoder, with the dropout that it has."""
    return lambda _, dtype: HuggingFaceBody(copy.deepcopy(model.base_model), dtype).to(device)


def our_seconds(work: Workload, rows: Encoded, device: torch.device, make_body: MakeBody) -> float:
    """Seconds of one epoch of ours."""
    assert rows.labels is not None, "rows to train on"
    texts = Rows(text_a=("",) * len(rows), text_b=None, labels=rows.labels.cpu().numpy())
    dev = texts.take(np.arange(SCORED))
    first = Encoded(
        ids=rows.ids[:SCORED],
        lengths=rows.lengths[:SCORED],
        host_lengths=rows.host_lengths[:SCORED],
        labels=rows.labels[:SCORED],
    )
    reader: Any = None  # the rows are encoded already
    subject = Subject(
        name="benchmark",
        kind="run",
        reader=reader,
        width=work.recipe.model.width,
        length=LONGEST,
        device=device,
        model_hash="",
        recipe_fingerprint=None,
        scores=Path(),
        make_body=make_body,
        make_predictor=None,
    )
    data = TaskData(task=TASK, train=texts, dev=dev, data_hash="", train_rows_available=len(rows))
    encoded = EncodedTask(train=rows, asked={TASK.name: Asked(rows=dev, encoded=first)})
    outcome = finetune(subject, data, dataclasses.replace(P1, epochs=1), encoded=encoded).outcome
    return outcome.steps * P1.batch / outcome.examples_per_second


def trainer_epoch(model: Any, work: Workload, rows: Encoded, *, bf16: bool) -> float:
    """Seconds of one epoch of theirs on a copy of the model, from the first batch to the last update."""
    from transformers import (
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )
    from transformers.utils import logging

    logging.set_verbosity_error()
    set_seed(0)
    times: dict[str, float] = {}

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            times["start"] = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            synchronise(pick_device())
            times["end"] = time.perf_counter()

    ids, labels = rows.ids.cpu().tolist(), rows.labels
    assert labels is not None, "rows to train on"
    examples = [
        {"input_ids": row[:length], "attention_mask": [1] * int(length), "labels": int(label)}
        for row, length, label in zip(ids, rows.host_lengths, labels.cpu(), strict=True)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=P1.batch,
            num_train_epochs=1,
            learning_rate=P1.lr,
            bf16=bf16,
            use_cpu=not torch.cuda.is_available(),
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        collator = DataCollatorWithPadding(mask_tokenizer(work.vocab), pad_to_multiple_of=8)
        trainer = Trainer(
            model=copy.deepcopy(model), args=arguments, train_dataset=examples, data_collator=collator,
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return times["end"] - times["start"]


def _classifier(kind: str, work: Workload) -> Any:
    from transformers import BertForSequenceClassification, ModernBertForSequenceClassification

    model = BertForSequenceClassification if kind == "bert" else ModernBertForSequenceClassification
    return model(build_config(kind, work))


if __name__ == "__main__":
    main()
