"""Fine-tuning by one setting, with a fresh state for each task and seed, on any subject and any kind of task.

What a protocol fixes stands in evaluate/protocols.py, how rows become tokens in evaluate/encoding.py. Shapes: B rows in a
batch, L positions, C classes or candidates, W words.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gpuday.core.errors import DataError
from gpuday.core.seeds import stream_seed
from gpuday.evaluate.buckets import IGNORED, Encoded, dev_batches, train_batches
from gpuday.evaluate.decoding import answers_of_rows, best_spans, tags_of_words, unread_tag
from gpuday.evaluate.encoding import Asked, EncodedTask, encode_task
from gpuday.evaluate.metrics import Predicted, measure
from gpuday.evaluate.pooling import pooling_for
from gpuday.evaluate.protocols import P1, Protocol
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.tasks.rows import TaskData
from gpuday.evaluate.tasks.task import Task
from gpuday.models.downstream import Classifier, Pooling, Spans, Tagger
from gpuday.train.device import has_bf16, synchronise

DEV_BATCH = 64  # token rows; the score does not depend on it
EVENT_SECONDS = 10.0  # between two events inside an epoch

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class Diverged(DataError):
    """A loss that is not finite: of one setting among several it says only that this one is none to take."""


class Tell(Interface):
    """Receives events for the screen: a kind and its values."""

    def __call__(self, event: str, /, **values: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one fine-tuning gave."""

    metrics: dict[str, float]
    """Values on dev by metric, 1 being perfect."""
    companions: dict[str, dict[str, float]]
    """The same on each companion's dev set."""
    train_loss: float
    """Mean loss over the last epoch: nats, or squared error for regression."""
    steps: int
    """Optimizer steps."""
    seconds: float
    """Wall clock of training and scoring; of tokenizing where the rows were not given as tokens."""
    examples_per_second: float
    """Train rows (of span: windows) a second while training."""
    dtype: str
    """In which the encoder computed."""
    unread_words: int = 0
    """Words of dev that the length cut off; they are given "O", else the commonest tag of train."""


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A fine-tuned model with its answers."""

    outcome: Outcome
    model: nn.Module
    """A head of models/downstream.py whose `body` is the encoder, in evaluation mode."""
    predicted: dict[str, Predicted]
    """By name of the rows: the task's own (its dev set), its companions', `test:<name>`. What each kind gives: metrics.py."""


def finetune(
    subject: Subject,
    data: TaskData,
    protocol: Protocol = P1,
    seed: int = 0,
    *,
    encoded: EncodedTask | None = None,
    progress: Tell | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> Finetuned:
    """Fine-tune a copy of the subject's encoder on a task and score it on dev. The subject is left as it was.

    The result depends on weights, rows, protocol and seed alone, not on what ran before; on a CPU it repeats to the bit.
    `encoded` saves a second seed the work of `encode_task`; `start` is the state of a body to begin with. Raises DataError
    and UsageError as `checking.check` does, and Diverged where a loss is not finite. The protocol has no sweep: what is
    tried for a task are its `settings`.
    """
    if protocol.sweep is not None:
        raise ValueError(f"{protocol.name} is a sweep: fine-tune by one of its settings")
    started = time.perf_counter()
    rows = encode_task(subject, data, protocol) if encoded is None else encoded
    task, name = data.task, f"finetune/{data.task.name}"
    device, dtype = subject.device, compute_dtype(subject.device)
    pooling = pooling_for(subject, task, protocol)
    # Dropout and the head's initial weights are drawn from torch's global generator: it is set for them and put back.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        body = subject.body(dropout=protocol.dropout, dtype=dtype)
        if start is not None:
            body.load_state_dict(start)
        torch.manual_seed(stream_seed(seed, f"{name}/head"))
        model = build_head(task, body, subject.width, protocol, pooling).to(device)
        torch.manual_seed(stream_seed(seed, f"{name}/dropout"))
        began = time.perf_counter()
        loss, steps = _train(model, rows.train, protocol, task, seed, name, progress)
        synchronise(device)
        training_seconds = time.perf_counter() - began
    model.eval()
    predicted = {part: predict(model, task, asked, data) for part, asked in rows.asked.items()}
    dev = rows.asked[task.name]
    return Finetuned(
        outcome=Outcome(
            metrics=measure(task, dev.rows, predicted[task.name]),
            companions={
                each.name: measure(each, data.companions[each.name], predicted[each.name])
                for each in task.companions
                if each.name in data.companions
            },
            train_loss=loss,
            steps=steps,
            seconds=time.perf_counter() - started,
            examples_per_second=steps * protocol.batch / training_seconds,
            dtype=str(dtype).removeprefix("torch."),
            unread_words=dev.unread_words,
        ),
        model=model,
        predicted=predicted,
    )


@cache
def compute_dtype(device: torch.device) -> torch.dtype:
    """What bodies compute in here; measured once, so that all that a process fine-tunes computes in the same."""
    return torch.bfloat16 if has_bf16(device) else torch.float32


def build_head(task: Task, body: nn.Module, width: int, protocol: Protocol, pooling: Pooling | None) -> nn.Module:
    """A new head for the task's kind on a body; its weights are drawn from torch's generator. Heads of tokens pool nothing."""
    if task.kind == "tagging":
        return Tagger(body, width, task.outputs, head=protocol.head, dropout=protocol.dropout)
    if task.kind == "span":
        return Spans(body, width, head=protocol.head, dropout=protocol.dropout)
    assert pooling is not None, "a head of whole rows reads one of the two"
    return Classifier(body, width, task.outputs, head=protocol.head, pooling=pooling, dropout=protocol.dropout)


def make_optimizer(parameters: Iterable[nn.Parameter], protocol: Protocol) -> torch.optim.AdamW:
    """The protocol's, at its peak rate."""
    return torch.optim.AdamW(
        parameters,
        lr=protocol.lr,
        betas=(protocol.beta1, protocol.beta2),
        eps=protocol.eps,
        # A step takes rate * weight_decay off the weights; divided by the peak rate, it takes the rate's share of it.
        weight_decay=protocol.weight_decay / protocol.lr if protocol.decay_by_share else protocol.weight_decay,
        fused=True,
    )


def rate_multiplier(step: int, steps: int, warmup: float, schedule: str = "cosine") -> float:
    """Share of the peak rate in step 0, 1, ... of `steps`: linear from 0 over int(warmup * steps), then half a cosine, or a
    line, to 0."""
    rising = int(warmup * steps)
    if step < rising:
        return step / rising
    passed = (step - rising) / max(1, steps - rising)
    return 1.0 - passed if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * passed))


def _train(
    model: nn.Module, rows: Encoded, protocol: Protocol, task: Task, seed: int, name: str, progress: Tell | None
) -> tuple[float, int]:
    """(mean loss over the last epoch, steps)"""
    steps = protocol.epochs * (len(rows) // protocol.batch)
    optimizer = make_optimizer(model.parameters(), protocol)
    (group,) = optimizer.param_groups
    loss_of = _loss_of(task)
    model.train()
    step, mean, began = 0, math.nan, time.perf_counter()
    told = began

    def tell(event: str, **values: Any) -> None:
        if progress is not None:
            left = (time.perf_counter() - began) / step * (steps - step)
            run = {"task": task.name, "seed": seed, "epoch": epoch + 1, "epochs": protocol.epochs}
            progress(event, **run, **values, seconds_left=left)

    for epoch in range(protocol.epochs):
        numbers = train_batches(rows.host_lengths, protocol.batch, seed, f"{name}/order", epoch)
        longest = rows.host_lengths[numbers].max(axis=1).tolist()
        losses = []
        for chosen, length in zip(torch.from_numpy(numbers).to(rows.ids.device), longest, strict=True):
            group["lr"] = protocol.lr * rate_multiplier(step, steps, protocol.warmup, protocol.schedule)
            ids, mask, types = rows.batch(chosen, length)
            loss = loss_of(model(ids, mask, types), rows.targets(chosen, length), mask)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
            step += 1
            if (now := time.perf_counter()) - told > EVENT_SECONDS:
                told = now
                tell("finetune", done=step / steps)
        mean = float(torch.stack(losses).mean())  # the one synchronisation of an epoch
        if not math.isfinite(mean):
            raise Diverged(
                f"the loss on {task.name} was not finite in epoch {epoch + 1} (seed {seed})",
                fix="look at the held-out loss: weights that diverged cannot be fine-tuned",
            )
        told = time.perf_counter()
        tell("epoch", loss=mean)
    return mean, step


@torch.inference_mode()
def predict(model: nn.Module, task: Task, asked: Asked, data: TaskData) -> Predicted:
    """The model's answers, in the order of the rows; the model is in evaluation mode."""
    rows, order, found = asked.encoded, [], []
    for numbers, chosen, outputs in outputs_in_batches(model, rows):
        order.append(numbers)
        if task.kind == "span":
            assert rows.context is not None, "span tasks have contexts"
            context = rows.context.index_select(0, chosen)[:, : outputs.shape[1]]
            found.append(best_spans(outputs, context))
        elif task.kind == "tagging":
            tags = outputs.argmax(-1)
            found.append(F.pad(tags, (0, rows.ids.shape[1] - tags.shape[1])))
        else:
            found.append(outputs.view(-1, task.options) if task.kind == "choice" else outputs)
    values = torch.cat(found).cpu().numpy()[np.argsort(np.concatenate(order))]
    return _answers(values, task, asked, data)


def outputs_in_batches(model: nn.Module, rows: Encoded) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
    """(numbers of rows [B], the same on the device, the model's scores of their token rows), every row once, by length."""
    for numbers in dev_batches(rows.host_lengths, max(1, DEV_BATCH // rows.candidates)):
        chosen, longest = torch.from_numpy(numbers).to(rows.ids.device), int(rows.host_lengths[numbers].max())
        yield numbers, chosen, model(*rows.batch(chosen, longest))


def _answers(values: NDArray[Any], task: Task, asked: Asked, data: TaskData) -> Predicted:
    """From what `predict` collected, in the order of the rows, to answers."""
    if task.kind == "span":
        assert asked.windows is not None, "span tasks have windows"
        labels = data.train.labels
        may_be_absent = labels is not None and bool((labels[:, 0] < 0).any())
        return answers_of_rows(values, asked.windows, asked.rows, may_be_absent=may_be_absent)
    if task.kind == "tagging":
        assert asked.words is not None and data.train.labels is not None, "tagging has words and tags"
        return tags_of_words(values, asked.words, unread_tag(task.classes, data.train.labels))
    if task.kind == "regression":
        return values[:, 0].astype(np.float64)
    return np.asarray(values.argmax(axis=1))


def _loss_of(task: Task) -> Loss:
    """(outputs, targets, mask) -> mean loss."""
    if task.kind == "regression":
        return lambda outputs, targets, _: F.mse_loss(outputs[:, 0], targets)
    if task.kind == "choice":
        return lambda outputs, targets, _: F.cross_entropy(outputs.view(-1, task.options), targets)
    if task.kind == "tagging":
        return lambda outputs, targets, _: F.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED
        )
    return _span_loss if task.kind == "span" else lambda outputs, targets, _: F.cross_entropy(outputs, targets)


def _span_loss(outputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean of both ends; padding is no place for either."""
    scores = outputs.masked_fill(~mask[..., None], -torch.inf)
    return (F.cross_entropy(scores[..., 0], targets[:, 0]) + F.cross_entropy(scores[..., 1], targets[:, 1])) / 2
