"""Fine-tuning under one fixed protocol: the same hyperparameters for every task, a fresh state for each.

P1 is the evaluation of Geiping & Goldstein, arXiv 2212.14034 (`GLUE_sane` in their code): what it fixes is written out in
`Protocol`. Not theirs: batches of like length instead of random ones, and bf16 without autocast instead of fp16 with it.
"""

import math
import time
from dataclasses import dataclass, replace
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gpuday.core.errors import DataError
from gpuday.core.seeds import stream_seed
from gpuday.evaluate.buckets import Encoded, dev_batches, encode, train_batches
from gpuday.evaluate.metrics import METRICS
from gpuday.evaluate.tasks.rows import TaskData
from gpuday.models.encoder import Encoder
from gpuday.models.heads import Classifier
from gpuday.train.device import has_bf16, synchronise
from gpuday.train.trained import Trained

DEV_BATCH = 64  # rows; the score does not depend on it


class Tell(Interface):
    """Receives events for the screen: a kind and its values."""

    def __call__(self, event: str, /, **values: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every hyperparameter of a fine-tuning. The metric is taken on dev after the last epoch; nothing is selected."""

    name: str = "P1"
    """Scores of two names never share a table."""
    epochs: int = 5
    """Passes over the train rows."""
    batch: int = 16
    """Rows in a step; an epoch's incomplete last batch is dropped."""
    lr: float = 4e-5
    """Peak learning rate of AdamW."""
    beta1: float = 0.9
    """Decay of the mean gradient."""
    beta2: float = 0.98
    """Decay of the mean squared gradient."""
    eps: float = 1e-6
    """Added to the root of the latter."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    warmup: float = 0.1
    """Share of the steps over which the rate rises; after them it falls to 0 along half a cosine."""
    dropout: float = 0.1
    """Dropout probability in the encoder and the head."""
    max_tokens: int = 128
    """Longer rows are cut."""


P1 = Protocol()
# P1's rate belongs to encoders of base size; it leaves a narrow one near the majority class.
P1_SMALL = replace(P1, name="P1-small", lr=5e-4)
PROTOCOLS = {p.name: p for p in (P1, P1_SMALL)}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one fine-tuning gave."""

    metrics: dict[str, float]
    """Values on dev by metric, 1 being perfect."""
    train_loss: float
    """Mean loss over the last epoch: nats, or squared error for regression."""
    steps: int
    """Optimizer steps."""
    seconds: float
    """Wall clock of tokenizing, training and scoring."""
    examples_per_second: float
    """Train rows a second while training."""
    dtype: str
    """In which the encoder computed."""


def encode_task(trained: Trained, data: TaskData, protocol: Protocol = P1) -> tuple[Encoded, Encoded]:
    """(train, dev) of a task as tokens on the device. Raises DataError where a batch cannot be filled."""
    if len(data.train) < protocol.batch:
        raise DataError(
            f"{data.task.name} has {len(data.train)} train rows, fewer than a batch",
            fix=f"give at least {protocol.batch}",
        )
    longest = min(protocol.max_tokens, trained.model.encoder.length)
    train, dev = (
        encode(r, trained.tokenizer, max_tokens=longest, device=trained.device) for r in (data.train, data.dev)
    )
    return train, dev


def finetune(
    trained: Trained,
    data: TaskData,
    protocol: Protocol = P1,
    seed: int = 0,
    *,
    encoded: tuple[Encoded, Encoded] | None = None,
    progress: Tell | None = None,
) -> Outcome:
    """Fine-tune a copy of the run's encoder on a task and score it on dev. The run's own model is left as it was.

    The result depends on weights, rows, protocol and seed alone, not on what ran before; on a CPU it repeats to the bit.
    `encoded` saves a second seed the work of `encode_task`. Raises DataError where a batch cannot be filled or a loss is
    not finite.
    """
    started = time.perf_counter()
    train, dev = encode_task(trained, data, protocol) if encoded is None else encoded
    name = f"finetune/{data.task.name}"
    device, dtype = trained.device, torch.bfloat16 if has_bf16(trained.device) else torch.float32
    # Dropout and the head's initial weights are drawn from torch's global generator: it is set for them and put back.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(stream_seed(seed, f"{name}/head"))
        model = _fresh(trained, data.task.outputs, protocol.dropout, dtype)
        torch.manual_seed(stream_seed(seed, f"{name}/dropout"))
        began = time.perf_counter()
        loss, steps = _train(model, train, protocol, data, seed, name, progress)
        synchronise(device)
        training_seconds = time.perf_counter() - began
    predicted = _predict(model, dev)
    return Outcome(
        metrics={metric: METRICS[metric](data.dev.labels, predicted) for metric in data.task.metrics},
        train_loss=loss,
        steps=steps,
        seconds=time.perf_counter() - started,
        examples_per_second=steps * protocol.batch / training_seconds,
        dtype=str(dtype).removeprefix("torch."),
    )


def rate_multiplier(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate in step 0, 1, ... of `steps`: linear from 0 over int(warmup * steps), then half a cosine."""
    rising = int(warmup * steps)
    if step < rising:
        return step / rising
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _fresh(trained: Trained, outputs: int, dropout: float, dtype: torch.dtype) -> Classifier:
    """A copy of the encoder with dropout, under a new head."""
    source = trained.model.encoder
    encoder = Encoder(replace(source.config, dropout=dropout), vocab=source.vocab, length=source.length)
    encoder.load_state_dict(source.state_dict())
    encoder.dtype = dtype
    return Classifier(encoder, outputs, dropout=dropout).to(trained.device)


def _train(
    model: Classifier,
    rows: Encoded,
    protocol: Protocol,
    data: TaskData,
    seed: int,
    name: str,
    progress: Tell | None,
) -> tuple[float, int]:
    """(mean loss over the last epoch, steps)"""
    steps = protocol.epochs * (len(rows) // protocol.batch)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=protocol.lr,
        betas=(protocol.beta1, protocol.beta2),
        eps=protocol.eps,
        weight_decay=protocol.weight_decay,
        fused=True,
    )
    loss_of = _squared_error if data.task.kind == "regression" else F.cross_entropy
    model.train()
    step, mean = 0, math.nan
    for epoch in range(protocol.epochs):
        numbers = train_batches(rows.host_lengths, protocol.batch, seed, f"{name}/order", epoch)
        longest = rows.host_lengths[numbers].max(axis=1).tolist()
        losses = []
        for chosen, length in zip(torch.from_numpy(numbers).to(rows.ids.device), longest, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = protocol.lr * rate_multiplier(step, steps, protocol.warmup)
            ids, mask = rows.batch(chosen, length)
            loss = loss_of(model(ids, mask), rows.labels.index_select(0, chosen))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
            step += 1
        mean = float(torch.stack(losses).mean())  # the one synchronisation of an epoch
        if not math.isfinite(mean):
            raise DataError(
                f"the loss on {data.task.name} was not finite in epoch {epoch + 1} (seed {seed})",
                fix="look at the run's held-out loss: weights that diverged cannot be fine-tuned",
            )
        if progress is not None:
            progress("epoch", task=data.task.name, seed=seed, epoch=epoch + 1, epochs=protocol.epochs, loss=mean)
    return mean, step


@torch.inference_mode()
def _predict(model: Classifier, rows: Encoded) -> NDArray[Any]:
    """Class numbers int64 [N], or values float64 [N] of a head with one output."""
    model.eval()
    batches = dev_batches(rows.host_lengths, DEV_BATCH)
    outputs = []
    for numbers in batches:
        ids, mask = rows.batch(torch.from_numpy(numbers).to(rows.ids.device), int(rows.host_lengths[numbers].max()))
        outputs.append(model(ids, mask))
    logits = torch.cat(outputs).cpu().numpy()
    values = logits[:, 0].astype(np.float64) if logits.shape[1] == 1 else logits.argmax(axis=1)
    return np.asarray(values[np.argsort(np.concatenate(batches))])


def _squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(outputs[:, 0], labels)
