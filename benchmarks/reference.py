"""Fine-tuning beside a plain script around the Hugging Face Trainer: the same folder, task, settings and batches.

Both start from the same weights, the head's included, and see the same batches in the same order; rows, model, loss, optimizer
and schedule of the other side are the libraries' own. By default P1 runs in fp32 without dropout, whose random numbers two
programs cannot share, over so many rows that its epochs are `--steps` steps, and the losses of all steps are compared. With
`--whole` it runs as it is, dropout included, over all rows, or `--rows` of them, and several seeds, and the scores on dev are compared.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from measure import Record, Spread, need, parser, table
from torch import Tensor, nn

from gpuday.evaluate import finetune as engine
from gpuday.evaluate.buckets import MULTIPLE, train_batches
from gpuday.evaluate.encoding import encode_task
from gpuday.evaluate.finetune import Finetuned, compute_dtype
from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.model_folder import quiet
from gpuday.evaluate.protocols import P1, Protocol
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.tasks import Rows, TaskData, load, parse_tasks

PROTOCOL = dataclasses.replace(P1, pooling="first")  # which the plain script reads, whatever the folder says
SHOWN = 10  # steps of the printed table
DEV_ROWS = 256  # that are scored after a comparison of losses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """What one side gave."""

    losses: list[float]
    score: float
    """Main metric on dev."""


def main() -> None:
    """Compare task by task."""
    arguments = ask()
    need("accelerate", "the Hugging Face Trainer")
    record = Record("reference", arguments.out)
    with tempfile.TemporaryDirectory() as scratch:
        subject = subject_of_folder(arguments.model, Path(scratch))
        for task in parse_tasks(",".join(arguments.tasks), arguments.task_data).tasks:
            data, protocol = load(task, arguments.task_data), PROTOCOL
            if arguments.whole:
                data = dataclasses.replace(data, train=spaced(data.train, arguments.rows or len(data.train)))
                sides = [both(arguments.model, subject, data, protocol, seed) for seed in range(arguments.seeds)]
                figures = scores_beside(sides)
            else:
                protocol = dataclasses.replace(PROTOCOL, dropout=0.0)
                data = shortened(data, protocol, arguments.steps)
                ours, theirs = both(arguments.model, subject, data, protocol, 0)
                print(table(side_by_side(ours.losses, theirs.losses)))
                figures = losses_beside(ours, theirs)
            shape = {"model": subject.name, "train_rows": len(data.train), **dataclasses.asdict(protocol)}
            record.add(f"{task.name} {'scores' if arguments.whole else 'losses'}", shape=shape, figures=figures)
    record.table()


def ask() -> argparse.Namespace:
    """The command line."""
    asked = parser(__doc__, tasks="CoLA,SST-2,RTE,MRPC,STS-B")
    asked.add_argument("--task-data", type=Path, required=True, help="folder of the tasks' files")
    asked.add_argument("--model", type=Path, required=True, help="folder of a Hugging Face encoder")
    asked.add_argument("--steps", type=int, default=50, help="optimizer steps of the comparison of losses [50]")
    asked.add_argument("--whole", action="store_true", help="all rows and the protocol's dropout; compare scores")
    asked.add_argument("--seeds", type=int, default=5, help="of --whole [5]")
    asked.add_argument("--rows", type=int, default=0, help="of --whole, at most so many train rows [all]")
    return asked.parse_args()


def shortened(data: TaskData, protocol: Protocol, steps: int) -> TaskData:
    """As many rows, evenly spaced over the train set, as make the protocol's epochs at most so many steps; few dev rows."""
    count = max(1, steps // protocol.epochs) * protocol.batch
    return dataclasses.replace(data, train=spaced(data.train, count), dev=spaced(data.dev, DEV_ROWS), companions={})


def spaced(rows: Rows, most: int) -> Rows:
    """At most so many rows, evenly spaced over all of them."""
    return rows.take(np.unique(np.linspace(0, len(rows) - 1, most).astype(np.int64)))


def both(folder: Path, subject: Subject, data: TaskData, protocol: Protocol, seed: int) -> tuple[Side, Side]:
    """(ours, theirs) of one fine-tuning; in fp32 where there is no dropout, which is where losses are compared."""
    dtype = compute_dtype(subject.device) if protocol.dropout else torch.float32
    head, losses = dict[str, Tensor](), list[Tensor]()
    build, loss_of = engine.build_head, engine._loss_of  # noqa: SLF001 - what is recorded is the engine itself

    def building(*given: Any) -> nn.Module:
        model = build(*given)
        head.update({n: t.clone() for n, t in model.state_dict().items() if not n.startswith("body.")})
        return model

    def recording(task: Any) -> Callable[..., Tensor]:
        plain = loss_of(task)

        def loss(*given: Tensor) -> Tensor:
            value = plain(*given)
            losses.append(value.detach())
            return value

        return loss

    encoded = encode_task(subject, data, protocol)
    with (
        mock.patch.object(engine, "build_head", building),
        mock.patch.object(engine, "_loss_of", recording),
        mock.patch.object(engine, "compute_dtype", return_value=dtype),
    ):
        found: Finetuned = engine.finetune(subject, data, protocol, seed, encoded=encoded)
    ours = Side(losses=torch.stack(losses).tolist(), score=found.outcome.metrics[data.task.main])
    name, lengths = f"finetune/{data.task.name}/order", encoded.train.host_lengths
    order = [train_batches(lengths, protocol.batch, seed, name, epoch) for epoch in range(protocol.epochs)]
    rows = np.concatenate(order).flatten()
    return ours, trainer_side(folder, data, protocol, seed, rows, head, bf16=dtype == torch.bfloat16)


class PlainClassifier(nn.Module):
    """P1's head on AutoModel, as one writes it for the Trainer: a dictionary with loss and logits."""

    def __init__(self, folder: Path, head: dict[str, Tensor], dropout: float) -> None:
        from transformers import AutoConfig, AutoModel

        super().__init__()
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        names = [name for name in config.to_dict() if "dropout" in name and getattr(config, name) is not None]
        for name in names:
            setattr(config, name, dropout)
        self.encoder = AutoModel.from_pretrained(folder, config=config, dtype=torch.float32, local_files_only=True)
        hidden, width = head["dense.weight"].shape
        self.dense, self.output = nn.Linear(width, hidden), nn.Linear(hidden, len(head["output.bias"]))
        self.dropout = nn.Dropout(dropout)
        self.load_state_dict(head, strict=False)  # the encoder has its weights

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state[:, 0]
        logits = self.output(self.dropout(torch.tanh(self.dense(hidden)))).float()
        if logits.shape[1] == 1:
            return {"loss": F.mse_loss(logits[:, 0], labels.float()), "logits": logits}
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def trainer_side(
    folder: Path, data: TaskData, protocol: Protocol, seed: int, order: Any, head: dict[str, Tensor], *, bf16: bool
) -> Side:
    """The Trainer on the train rows in this order, from this head."""
    from torch.utils.data import SequentialSampler
    from transformers import AutoTokenizer, DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

    losses = list[Tensor]()

    class Recording(Trainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return SequentialSampler(ordered)

        def training_step(self, *given: Any, **named: Any) -> Tensor:
            loss = super().training_step(*given, **named)
            losses.append(loss.detach())
            return loss

    with tempfile.TemporaryDirectory() as scratch, quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        train, asked = (examples(tokenizer, rows, protocol.max_tokens) for rows in (data.train, data.dev))
        ordered: Any = [train[i] for i in order]
        dev: Any = asked
        steps = len(order) // protocol.batch
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=protocol.batch,
            learning_rate=protocol.lr,
            adam_beta1=protocol.beta1,
            adam_beta2=protocol.beta2,
            adam_epsilon=protocol.eps,
            weight_decay=protocol.weight_decay,
            max_grad_norm=0.0,
            optim="adamw_torch",
            lr_scheduler_type="cosine",
            warmup_steps=int(protocol.warmup * steps),
            seed=seed,
            bf16=bf16,
            use_cpu=not torch.cuda.is_available(),
            label_names=["labels"],
            remove_unused_columns=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = Recording(
            model=PlainClassifier(folder, head, protocol.dropout),
            args=arguments,
            train_dataset=ordered,
            data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=MULTIPLE),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        logits = trainer.predict(dev).predictions
    return Side(losses=torch.stack(losses).tolist(), score=scored(data.task.main, data.dev, logits))


def examples(tokenizer: Any, rows: Rows, longest: int) -> list[dict[str, Any]]:
    """What the collator takes, as the library's own tokenizer gives it."""
    texts = (list(rows.text_a),) if rows.text_b is None else (list(rows.text_a), list(rows.text_b))
    read = tokenizer(*texts, truncation="longest_first", max_length=longest)
    labels = rows.labels
    assert labels is not None, "only labelled rows are compared"
    return [{**{name: read[name][i] for name in read}, "labels": labels[i].item()} for i in range(len(rows))]


def scored(metric: str, rows: Rows, logits: Any) -> float:
    """A metric by scikit-learn or scipy."""
    from scipy import stats
    from sklearn import metrics

    if logits.shape[1] == 1:
        return float({"pearson": stats.pearsonr, "spearman": stats.spearmanr}[metric](rows.labels, logits[:, 0])[0])
    known = {"accuracy": metrics.accuracy_score, "f1": metrics.f1_score, "matthews": metrics.matthews_corrcoef}
    return float(known[metric](rows.labels, logits.argmax(axis=1)))


def losses_beside(ours: Side, theirs: Side) -> dict[str, Any]:
    """The largest difference of the losses in the same step, and where it is; the scores, of a run without dropout."""
    apart = np.abs(np.array(ours.losses) - np.array(theirs.losses))
    return {
        "steps": len(apart),
        "first_loss": ours.losses[0],
        "last_loss": ours.losses[-1],
        "largest_difference": float(apart.max()),
        "in_step": int(apart.argmax()) + 1,
        "our_score": ours.score,
        "their_score": theirs.score,
    }


def side_by_side(ours: list[float], theirs: list[float]) -> list[dict[str, Any]]:
    """Rows of a table: some of the steps, the last one among them."""
    steps = sorted({round(i) for i in np.linspace(0, len(ours) - 1, min(SHOWN, len(ours)))})
    return [
        {"step": i + 1, "ours": f"{ours[i]:.7f}", "theirs": f"{theirs[i]:.7f}", "difference": ours[i] - theirs[i]}
        for i in steps
    ]


def scores_beside(sides: list[tuple[Side, Side]]) -> dict[str, Any]:
    """Both sides' scores over the seeds, and the mean of what ours is above theirs with the same seed."""
    ours, theirs = ([side.score for side in one] for one in zip(*sides, strict=True))
    above = np.array(ours) - np.array(theirs)
    return {"ours": Spread.of(ours), "theirs": Spread.of(theirs), "mean_difference": float(above.mean())}


if __name__ == "__main__":
    main()
