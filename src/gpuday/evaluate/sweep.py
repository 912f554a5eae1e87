"""The setting of a protocol that does best on a task's dev set, where the protocol is a sweep (P2).

As published, dev is both what chooses and what is reported; scores of such a protocol are higher for it, and its name stands
beside every one of them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from gpuday.evaluate.encoding import EncodedTask, encode_task
from gpuday.evaluate.finetune import Diverged, Tell, finetune
from gpuday.evaluate.plan import settings_of
from gpuday.evaluate.protocols import Protocol
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.tasks.rows import TaskData

SEED = -1  # of the trials: none of the reported ones, so that no reported seed was chosen for its luck


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting with its main metric on dev."""

    lr: float
    weight_decay: float
    epochs: int
    value: float | None
    """None where it diverged."""


@dataclass(frozen=True, kw_only=True)
class Picked:
    """The setting that won, and all that were tried."""

    protocol: Protocol
    """Without a sweep."""
    trials: tuple[Trial, ...]
    """In the order of the grid; the first of several that are equally good is taken."""
    seconds: float
    """Wall clock of the trials that were run."""


def pick(
    subject: Subject,
    data: TaskData,
    protocol: Protocol,
    *,
    encoded: EncodedTask | None = None,
    start: Mapping[str, Tensor] | None = None,
    progress: Tell | None = None,
    known: Mapping[Protocol, float | None] | None = None,
    found: Callable[[Protocol, float | None], None] | None = None,
) -> Picked:
    """Fine-tune once by each of the protocol's settings for the task.

    `known` are values of settings that were tried before, and `found` hears of every new one, so that a sweep can be
    resumed. A setting that diverges has no value and is not taken; raises Diverged where all do. A protocol without a sweep
    is its own only setting, which is not run.
    """
    settings = settings_of(protocol, data.task)
    if protocol.sweep is None:
        return Picked(protocol=protocol, trials=(), seconds=0.0)
    started, values = time.perf_counter(), dict(known or {})
    for number, setting in enumerate(settings, start=1):
        if setting in values:
            continue
        rows = encoded = encode_task(subject, data, protocol) if encoded is None else encoded
        try:
            tuned = finetune(subject, data, setting, SEED, encoded=rows, start=start, progress=progress)
            values[setting] = tuned.outcome.metrics[data.task.main]
        except Diverged:
            values[setting] = None
        if found is not None:
            found(setting, values[setting])
        if progress is not None:
            progress("trial", task=data.task.name, number=number, of=len(settings), value=values[setting])
    marks = {setting: value for setting in settings if (value := values[setting]) is not None}
    if not marks:
        raise Diverged(
            f"no loss on {data.task.name} was finite, whichever of {len(settings)} settings was tried",
            fix="look at the held-out loss: weights that diverged cannot be fine-tuned",
        )
    return Picked(
        protocol=max(marks, key=lambda setting: marks[setting]),
        trials=tuple(Trial(lr=s.lr, weight_decay=s.weight_decay, epochs=s.epochs, value=values[s]) for s in settings),
        seconds=time.perf_counter() - started,
    )
