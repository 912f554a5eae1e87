"""A fine-tuned model kept as a folder that predicts: a native Hugging Face one where a class holds encoder and head exactly,
else one of our own, of safetensors and JSON.

The folder is built beside its place, loaded there as it will be loaded, compared with the model on rows of dev, and moved
into place only then. The predictions beside the weights are those of the loaded folder, so that `gpuday predict` repeats
them.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpuday.core.errors import DataError
from gpuday.core.rundir import write_atomic
from gpuday.evaluate.checking import longest_row
from gpuday.evaluate.encoding import encode
from gpuday.evaluate.finetune import Finetuned, outputs_in_batches
from gpuday.evaluate.intervals import Interval
from gpuday.evaluate.protocols import Protocol
from gpuday.evaluate.scorefile import IDENTITY, Score, read_score, suite_folder, write_score
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.tasks.own import SUITE as OWN
from gpuday.evaluate.tasks.parsing import Columns
from gpuday.evaluate.tasks.rows import Rows, TaskData
from gpuday.evaluate.tasks.task import Task
from gpuday.export import task_heads
from gpuday.export.finetuned_card import write_finetuned_card
from gpuday.export.finetuned_files import settings_of, write_model
from gpuday.export.hf import choose
from gpuday.export.kept import NAME, Kept, write_kept
from gpuday.export.parity import TOLERANCE, ParityError
from gpuday.export.place import CARD, check_replaceable, replacing
from gpuday.export.predicting import BODY, ENCODER, TOKENIZER, WEIGHTS, Predicting, headed, load_finetuned
from gpuday.export.task_heads import Headed
from gpuday.models.downstream import Classifier, Head, Pooling
from gpuday.models.encoder import Encoder

FOLDER = "finetuned"  # of a run: finetuned/<suite>[-<protocol>]/<task>/<seed>/
SCORE, PREDICTIONS = "score.json", "predictions.jsonl"
FILES = {
    *(CARD, NAME, SCORE, PREDICTIONS, WEIGHTS, "config.json", ENCODER, BODY, TOKENIZER),
    *("tokenizer_config.json", "special_tokens_map.json"),
}
COMPARED = 64  # rows of dev


def head_for(subject: Subject, pooling: Pooling | None = None) -> Head:
    """The head under which a fine-tuned copy of this encoder fits a class of Transformers; "paper" where none does.

    `pooling` is what a head of whole rows reads, None for one of tokens.
    """
    body = subject.body(dropout=0.0, dtype=torch.float32)
    if isinstance(body, Encoder):
        native, _ = choose(body.config, head=False)
        return task_heads.fitting_head(native.kind if native else None, body.config.norm_eps, pooling)
    settings = settings_of(body)
    return task_heads.fitting_head(settings.get("model_type"), settings.get("norm_eps"), pooling)


def kept_folder(root: Path, suite: str, protocol: str, task: str, seed: int) -> Path:
    """Where a run keeps the model of a task and seed; the folders are called as those of the scores."""
    return root / FOLDER / suite_folder(suite, protocol) / task / str(seed)


def check_place(folder: Path) -> None:
    """Raise UsageError where `keep` could not write to `folder`."""
    check_replaceable(folder, FILES)


def is_kept(folder: Path, score: Score) -> bool:
    """Whether the folder holds the model of this very score."""
    return read_score(folder / SCORE, {key: json.loads(json.dumps(asdict(score)[key])) for key in IDENTITY}) is not None


def keep(
    tuned: Finetuned,
    subject: Subject,
    data: TaskData,
    protocol: Protocol,
    score: Score,
    folder: Path,
    *,
    interval: Interval | None = None,
    columns: Columns | None = None,
) -> dict[str, Any]:
    """Write the fine-tuned model of a score to `folder`, with its predictions on dev.

    `columns` are those of the user's own file. Returns {format, architecture, parity_max_abs, rows, changed, folder,
    reason}: the class of Transformers that holds it, or None and why; the largest difference of its logits from the
    model's on `rows` rows of dev; and the share of dev rows that the kept model, which computes in fp32, answers otherwise
    than the scored one did. Raises ParityError where the folder is not the model, which is a fault of ours.
    """
    model = tuned.model
    assert isinstance(model, Headed), "a head of models/downstream.py"
    kept, why = _described(subject, model, data, protocol, score, columns)
    exact = headed(kept, subject.body(dropout=0.0, dtype=torch.float32))
    exact.load_state_dict({name: value.detach().float() for name, value in model.state_dict().items()})
    ours = Predicting(kept=kept, reader=subject.reader, model=exact.cpu().eval(), device=torch.device("cpu"))
    assert isinstance(exact, Headed), "as the one above"
    section: dict[str, Any] = {"format": kept.format, "architecture": None, "reason": why, "folder": os.fspath(folder)}
    if kept.format == "transformers":
        section["architecture"] = task_heads.architecture(kept.head, kept.kind)
    with replacing(folder, FILES) as building:
        write_model(kept, exact, subject, building, dropout=protocol.dropout)
        write_kept(kept, building)
        write_score(building / SCORE, score)
        try:
            loaded = load_finetuned(building)
        except DataError as error:
            raise ParityError(f"the kept model does not load: {error.what}", where=error.where) from error
        section |= _compared(ours, loaded, data.dev)
        section["changed"] = _write_predictions(loaded.to(subject.device), data, tuned, building / PREDICTIONS)
        text = write_finetuned_card(kept, score=score, data=data, interval=interval, section=section)
        write_atomic(building / CARD, text.encode())
    return section


def _described(
    subject: Subject, model: Headed, data: TaskData, protocol: Protocol, score: Score, columns: Columns | None
) -> tuple[Kept, str]:
    """What the folder will say of the model, and why no class of Transformers holds it; empty where one does."""
    task, labels = data.task, data.train.labels
    pooling: Pooling = model.pooling if isinstance(model, Classifier) else "first"
    fits = head_for(subject, pooling)
    why = ""
    if fits == "paper" != head_for(subject):
        why = "the classes of Transformers for this encoder read position 0, this model the mean of its tokens"
        why += "; --pooling first makes one that they hold" if task.suite == OWN else ""
    elif fits == "paper":
        why = "no class of Transformers holds this encoder under a head of ours"
    elif model.head != fits:
        why = f"the classes of Transformers for this encoder have the head {fits}, this model the head {model.head}"
    kept = Kept(
        format="gpuday" if why else "transformers",
        subject=subject.kind,
        typed=subject.reader.typed,
        head=model.head,
        pooling=pooling,
        width=subject.width,
        length=longest_row(subject, protocol),
        task=task.name,
        kind=task.kind,
        classes=task.classes,
        options=task.options,
        pair=task.pair,
        metrics=task.metrics,
        may_be_absent=task.kind == "span" and labels is not None and bool((labels[:, 0] < 0).any()),
        columns=columns or Columns(text_b="text_b" if task.pair else None),
        protocol=score.protocol,
        seed=score.seed,
    )
    return kept, why


def _compared(ours: Predicting, theirs: Predicting, rows: Rows) -> dict[str, Any]:
    """`parity_max_abs` of the logits at real tokens, and the `rows` of dev that were compared."""
    some = replace(rows.take(np.arange(min(COMPARED, len(rows)))), labels=None, answers=None)
    task, length, where = ours.kept.as_task(), ours.kept.length, "gpuday's reader and the kept one"
    here, there = (encode(model, task, some, length).encoded for model in (ours, theirs))
    if not torch.equal(here.ids, there.ids) or not torch.equal(here.lengths, there.lengths):
        raise ParityError("the kept tokenizer gives other ids for rows of dev", where=where)
    wanted, found = list[Tensor](), list[Tensor]()
    with torch.inference_mode():
        pairs = zip(outputs_in_batches(ours.model, here), outputs_in_batches(theirs.model, there), strict=True)
        for (_, chosen, mine), (_, _, other) in pairs:
            real = torch.ones(len(mine), dtype=torch.bool)
            if mine.dim() == 3:  # scores of tokens, padding among them
                real = torch.arange(mine.shape[1]) < here.lengths.index_select(0, chosen)[:, None]
            wanted.append(mine[real].flatten())
            found.append(other[real].flatten())
    mine, other = torch.cat(wanted), torch.cat(found)
    largest = float((mine - other).abs().max())
    # Rounding shrinks with the logits, so that a barely trained head must not pass by being small.
    allowed = TOLERANCE * min(1.0, float(mine.square().mean().sqrt()))
    if not largest <= allowed:  # NaN fails too
        raise ParityError(
            f"the kept model's logits differ from the fine-tuned model's by {largest:.3g}, more than {allowed:.3g}",
            where=f"{task.name}, seed {ours.kept.seed}",
            fix="report this with the version of transformers; the score is unharmed",
        )
    return {"parity_max_abs": largest, "rows": len(some)}


def _write_predictions(model: Predicting, data: TaskData, tuned: Finetuned, path: Path) -> float | None:
    """Dev rows with label and answer, one JSON object a line; the share of them that were scored otherwise."""
    scored = list(shown(data.task, data.dev, tuned.predicted[data.task.name]))
    truth = list(shown(data.task, data.dev, data.dev.answers if data.task.kind == "span" else data.dev.labels))
    lines, changed = list[str](), 0
    for number, answer in enumerate(model.predict(data.dev)):
        row: dict[str, Any] = {"number": number + 1}
        if data.dev.ids is not None:
            row["id"] = data.dev.ids[number]
        lines.append(json.dumps({**row, "label": truth[number], **answer}, ensure_ascii=False))
        changed += _differs(answer["prediction"], scored[number])
    write_atomic(path, ("\n".join(lines) + "\n").encode())
    return None if data.task.kind == "regression" else changed / len(lines)


def _differs(answer: Any, scored: Any) -> bool:
    """Whether an answer is another than the scored one; a word that was not read has none."""
    if isinstance(answer, list):
        return any(mine not in (None, other) for mine, other in zip(answer, scored, strict=True))
    return bool(answer != scored)


def shown(task: Task, rows: Rows, values: Any) -> Iterator[Any]:
    """Labels, or `Predicted`, as predictions are written: names of classes, lists of tags."""
    if task.kind == "classification":
        yield from (task.classes[i] for i in values)
    elif task.kind == "tagging":
        start = 0
        for words in rows.words or ():
            yield [task.classes[i] for i in values[start : start + len(words)]]
            start += len(words)
    elif task.kind == "span":
        yield from (list(v) if isinstance(v, tuple) else v for v in values)
    else:
        yield from values.tolist()
