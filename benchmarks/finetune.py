"""Fine-tuning in examples/s against the Hugging Face Trainer on the same model shape and the same rows.

Ours is `evaluate/finetune.py` under P1 (batches of 16 rows of like length); theirs is `Trainer.train()` with the padding
collator as it comes. Rows have 8 to 96 tokens, most of them short, as GLUE's have. One epoch of ours and one of theirs
alternate; loading and scoring are outside of both times.
"""

import dataclasses
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Record, Spread, need, parser
from peer_trainer import mask_tokenizer
from workload import Workload, random_rows, workload

from gpuday.core.rundir import RunDir
from gpuday.evaluate.buckets import Encoded
from gpuday.evaluate.finetune import P1, finetune
from gpuday.evaluate.tasks.rows import Rows, TaskData
from gpuday.evaluate.tasks.task import Task
from gpuday.train.assemble import make_model
from gpuday.train.device import pick_device, synchronise
from gpuday.train.trained import Trained

LONGEST = 96
ARMS = {"bert fp32": ("bert", False), "bert bf16": ("bert", True), "modernbert bf16": ("modernbert", True)}


def main() -> None:
    """Time each size against each setting."""
    arguments = parser(__doc__, sizes="nano,micro").parse_args()
    need("accelerate", "the Hugging Face Trainer")
    record = Record("finetune", arguments.out)
    steps, rounds = (10, 3) if arguments.quick else (20, 5)
    for size in arguments.sizes[: 1 if arguments.quick else None]:
        work, device = workload(size), pick_device()
        rows = make_rows(steps * P1.batch, work.vocab, device)
        ours = partial(our_seconds, work, rows, device)
        for name in ARMS:
            figures = alternating(ours, partial(trainer_epoch, name, work, rows), rounds, steps * P1.batch)
            shape = {**work.shape(), "batch": P1.batch, "examples": len(rows), "longest": LONGEST}
            record.add(f"{size} {name}", shape=shape, figures=figures)
    record.table()


def alternating(ours: Any, theirs: Any, rounds: int, examples: int) -> dict[str, Any]:
    """Examples/s of both and their ratio, over alternating epochs after one of each to warm up."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds + 1):
        seconds["theirs"].append(theirs())
        seconds["ours"].append(ours())
    own, peer = (Spread.of(seconds[name][1:]) for name in ("ours", "theirs"))
    return {
        "theirs_examples_per_second": peer.rate(examples),
        "ours_examples_per_second": own.rate(examples),
        "ratio": peer.median / own.median,
    }


def make_rows(count: int, vocab: int, device: torch.device) -> Encoded:
    """Random rows of two classes, their lengths drawn from a log-normal around 25."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(3.2, 0.6, count).astype(np.int64), 8, LONGEST)
    ids = torch.from_numpy(random_rows(count, LONGEST, vocab).astype(np.int32))
    labels = torch.from_numpy(draw.integers(0, 2, count))
    on_device = torch.from_numpy(lengths).to(device)
    return Encoded(ids=ids.to(device), lengths=on_device, host_lengths=lengths, labels=labels.to(device))


def our_seconds(work: Workload, rows: Encoded, device: torch.device) -> float:
    """Seconds of one epoch of ours."""
    texts = Rows(text_a=("",) * len(rows), text_b=None, labels=rows.labels.cpu().numpy())
    task = Task(name="random", suite="benchmark", classes=("a", "b"))
    data = TaskData(task=task, train=texts, dev=texts, data_hash="", train_rows_available=len(rows))
    tokenizer: Any = None  # the rows are encoded already
    model = make_model(work.recipe, vocab=work.vocab).to(device).eval()
    trained = Trained(work.recipe, model, tokenizer, RunDir(Path()), device)
    outcome = finetune(trained, data, dataclasses.replace(P1, epochs=1), encoded=(rows, rows))
    return outcome.steps * P1.batch / outcome.examples_per_second


def trainer_epoch(name: str, work: Workload, rows: Encoded) -> float:
    """Seconds of one epoch of theirs, from the first batch to the last update."""
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
    kind, bf16 = ARMS[name]
    set_seed(0)
    times: dict[str, float] = {}

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            times["start"] = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            synchronise(pick_device())
            times["end"] = time.perf_counter()

    ids = rows.ids.cpu().tolist()
    examples = [
        {"input_ids": row[:length], "attention_mask": [1] * int(length), "labels": int(label)}
        for row, length, label in zip(ids, rows.host_lengths, rows.labels.cpu(), strict=True)
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
            model=_classifier(kind, work), args=arguments, train_dataset=examples, data_collator=collator,
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return times["end"] - times["start"]


def _classifier(kind: str, work: Workload) -> Any:
    from peer_trainer import build_config
    from transformers import BertForSequenceClassification, ModernBertForSequenceClassification

    model = BertForSequenceClassification if kind == "bert" else ModernBertForSequenceClassification
    return model(build_config(kind, work))


if __name__ == "__main__":
    main()
