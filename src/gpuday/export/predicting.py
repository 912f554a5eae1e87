"""A kept model, loaded from its folder, and its answers to rows. Nothing in a folder is run, and nothing is built that is
larger than its weights: shapes are compared with those of the file first.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from gpuday.core import config
from gpuday.core.errors import DataError, UsageError, within
from gpuday.core.rundir import read_json
from gpuday.data.prepare import MOST_LENGTH, MOST_VOCAB
from gpuday.data.tokenizer import TextTokenizer
from gpuday.evaluate.decoding import answers_of_rows, best_spans
from gpuday.evaluate.encoding import Asked, encode
from gpuday.evaluate.finetune import build_head, outputs_in_batches
from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.model_folder import MOST, fast_tokenizer
from gpuday.evaluate.protocols import Protocol
from gpuday.evaluate.reading import Reader, reader_of_fast, reader_of_run
from gpuday.evaluate.tasks.rows import Rows
from gpuday.evaluate.tasks.task import Kind
from gpuday.export import task_heads
from gpuday.export.kept import Kept, read_kept
from gpuday.export.parity import load_auto
from gpuday.models.encoder import Encoder, EncoderConfig

ENCODER, WEIGHTS, TOKENIZER = "encoder.json", "model.safetensors", "tokenizer.json"
BODY = "encoder"  # folder of an encoder of Transformers whose head is ours
ROWS = 1024  # that are answered together: all that is held of a file
DIGITS = 6  # of a probability or a value
_MOST_BUFFERS = 1 << 30  # bytes of tables that are no weights, such as those of rotary positions
KEEP_AGAIN = "keep the model again, or fetch the folder again: its files belong together"


@dataclass(frozen=True, kw_only=True)
class Outline:
    """`encoder.json`: an encoder of ours but for its weights."""

    encoder: EncoderConfig
    vocab: int
    length: int
    """Tokens of the longest row."""

    def __post_init__(self) -> None:
        within("", vocab=(self.vocab, 1, MOST_VOCAB), length=(self.length, 1, MOST_LENGTH))

    def build(self) -> Encoder:
        return Encoder(self.encoder, vocab=self.vocab, length=self.length)


@dataclass(frozen=True, kw_only=True)
class Predicting:
    """A fine-tuned model that answers rows."""

    kept: Kept
    reader: Reader
    model: nn.Module
    """(ids, mask, types) -> logits, as the heads of models/downstream.py give them; fp32, in evaluation mode."""
    device: torch.device

    def to(self, device: torch.device) -> "Predicting":
        return replace(self, model=self.model.to(device), device=device)

    def predict(self, rows: Rows, *, but: Collection[int] = ()) -> Iterator[dict[str, Any]]:
        """An answer for each row, in order: `prediction`, and beside it `probability`, by class `probabilities`. That of the
        rows at the positions `but`, which there is nothing to ask of, is {"prediction": None}."""
        task = self.kept.as_task()
        for start in range(0, len(rows), ROWS):
            places = np.arange(start, min(start + ROWS, len(rows)))
            asked = np.array([at for at in places if at not in but], dtype=np.int64)
            part = replace(rows.take(asked), labels=None, answers=None)
            answers: list[dict[str, Any]] = []
            if len(asked):
                with torch.inference_mode():
                    answers = list(_ANSWERS[task.kind](self, encode(self, task, part, self.kept.length)))
            following = iter(answers)
            yield from ({"prediction": None} if at in but else next(following) for at in places)


def load_finetuned(folder: Path, *, device: torch.device | None = None) -> Predicting:
    """A model that `keep` wrote. Raises DataError for a folder that is none, or whose files do not belong together."""
    kept, on = read_kept(folder), device or torch.device("cpu")
    try:
        load = _native if kept.format == "transformers" else _own if kept.subject == "run" else _foreign
        reader, model = load(kept, folder)
    except UsageError as error:  # of a config: the folder is damaged, not the command
        raise DataError(f"{folder} is damaged: {error.what}", where=error.where, fix=KEEP_AGAIN) from error
    return Predicting(kept=kept, reader=reader, model=model.to(on).eval(), device=on)


def _native(kept: Kept, folder: Path) -> tuple[Reader, nn.Module]:
    """A class of Transformers, loaded as any user would load it."""
    import transformers

    path, name = folder / "config.json", task_heads.architecture(kept.head, kept.kind)
    values = read_json(path)
    if not isinstance(values, dict) or values.get("architectures") != [name]:
        raise DataError(f"{path} is not that of a {name}", fix=KEEP_AGAIN)
    said = task_heads.settings(kept.as_task(), kept.head, dropout=0.0, pooling=kept.pooling)
    for key, what in (("id2label", "names other classes"), ("classifier_pooling", "reads rows otherwise")):
        if key in said and values.get(key) != said[key]:
            raise DataError(f"{path} {what} than task.json", fix=KEEP_AGAIN)
    for key, most in MOST.items():
        if type(values.get(key)) is not int or not 1 <= values[key] <= most:
            raise DataError(f"{key} is not a number from 1 to {most:,}", where=str(path), fix=KEEP_AGAIN)
    if kept.subject == "run":
        reader = reader_of_run(TextTokenizer.load(folder / TOKENIZER))
    else:
        reader = reader_of_fast(fast_tokenizer(folder), typed=kept.typed)
    _check_room(kept, reader, vocab=values["vocab_size"], length=values.get("max_position_embeddings"), folder=folder)
    try:
        cls = getattr(transformers, name)
        with torch.device("meta"):
            outline = cls(cls.config_class.from_dict(values))
        _check_shapes(outline.state_dict(), folder)
        _check_outputs(kept, outline.state_dict(), path)
        model = load_auto(task_heads.auto(kept.kind), folder)
    except DataError:
        raise
    except Exception as error:  # whatever the library makes of a damaged folder
        raise DataError(f"{folder} does not load: {type(error).__name__}: {error}"[:1000], fix=KEEP_AGAIN) from error
    return reader, task_heads.NativeAnswer(model, kept.kind)


def _own(kept: Kept, folder: Path) -> tuple[Reader, nn.Module]:
    """Our head on our encoder."""
    path = folder / ENCODER
    outline = config.from_dict(Outline, read_json(path), where=os.fspath(path))
    reader = reader_of_run(TextTokenizer.load(folder / TOKENIZER))
    _check_room(kept, reader, vocab=outline.vocab, length=outline.length, folder=folder)
    with torch.device("meta"):
        planned = headed(kept, outline.build())
    _check_shapes(planned.state_dict(), folder)
    if sum(tensor.nbytes for tensor in planned.buffers()) > _MOST_BUFFERS:
        raise DataError(f"{path} asks for tables of more than {_MOST_BUFFERS:,} bytes", fix=KEEP_AGAIN)
    model = headed(kept, outline.build())
    model.load_state_dict(load_file(folder / WEIGHTS))
    return reader, model


def _foreign(kept: Kept, folder: Path) -> tuple[Reader, nn.Module]:
    """Our head on an encoder of Transformers, whose folder lies inside."""
    subject = subject_of_folder(folder / BODY, folder)
    if subject.width != kept.width or subject.length < kept.length:
        raise DataError(f"{folder / BODY} is not the encoder of this head", fix=KEEP_AGAIN)
    model = headed(kept, subject.body(dropout=0.0, dtype=torch.float32).cpu())
    state = model.state_dict()
    _check_shapes({name: tensor for name, tensor in state.items() if not name.startswith("body.")}, folder)
    model.load_state_dict({**state, **load_file(folder / WEIGHTS)})
    return subject.reader, model


def headed(kept: Kept, body: nn.Module) -> nn.Module:
    """The encoder under a new head of this kind; the caller's random stream does not notice."""
    with torch.random.fork_rng(devices=[]):
        return build_head(kept.as_task(), body, kept.width, Protocol(head=kept.head, dropout=0.0), kept.pooling)


def _check_room(kept: Kept, reader: Reader, *, vocab: int, length: Any, folder: Path) -> None:
    """Whether the encoder has a place for every token that the tokenizer gives, and for as many as rows are long."""
    largest = max(reader.tokenizer.get_vocab(with_added_tokens=True).values())
    if largest >= vocab or type(length) is not int or length < kept.length:
        raise DataError(
            f"rows of {kept.length} tokens with ids up to {largest:,} do not fit an encoder of {length} and {vocab:,}",
            where=str(folder),
            fix=KEEP_AGAIN,
        )


def _check_shapes(wanted: Mapping[str, Tensor], folder: Path) -> None:
    """Whether the file holds exactly these tensors; only its header is read."""
    path = folder / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read: {error}", fix=KEEP_AGAIN) from error
    asked = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    if wrong := sorted(name for name in {*found, *asked} if found.get(name) != asked.get(name)):
        raise DataError(
            f"{path} does not hold the weights that the model needs", where=", ".join(wrong[:3]), fix=KEEP_AGAIN
        )


def _check_outputs(kept: Kept, weights: Mapping[str, Tensor], path: Path) -> None:
    """Whether the last layer of a class of Transformers has as many scores as the task."""
    found = next(t.shape[0] for name, t in weights.items() if name in ("classifier.bias", "qa_outputs.bias"))
    if found != (wanted := kept.as_task().outputs):
        raise DataError(f"{path} asks for {found} scores, the task for {wanted}", fix=KEEP_AGAIN)


def _classified(model: Predicting, asked: Asked) -> Iterator[dict[str, Any]]:
    classes, rows = model.kept.classes, _scores(model, asked)
    for probabilities in torch.softmax(rows, dim=-1).tolist():
        best = max(range(len(classes)), key=probabilities.__getitem__)
        yield {
            "prediction": classes[best],
            "probability": round(probabilities[best], DIGITS),
            "probabilities": {name: round(p, DIGITS) for name, p in zip(classes, probabilities, strict=True)},
        }


def _valued(model: Predicting, asked: Asked) -> Iterator[dict[str, Any]]:
    for value in _scores(model, asked)[:, 0].tolist():
        yield {"prediction": round(value, DIGITS)}


def _chosen(model: Predicting, asked: Asked) -> Iterator[dict[str, Any]]:
    for probabilities in torch.softmax(_scores(model, asked), dim=-1).tolist():
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        shown = [round(p, DIGITS) for p in probabilities]
        yield {"prediction": best, "probability": shown[best], "probabilities": shown}


def _scores(model: Predicting, asked: Asked) -> Tensor:
    """fp64 on the CPU: [N, C] of rows, or [N, candidates]."""
    found = [(numbers, scores.double().cpu()) for numbers, _, scores in outputs_in_batches(model.model, asked.encoded)]
    order = torch.from_numpy(np.argsort(np.concatenate([numbers for numbers, _ in found])))
    return torch.cat([scores.view(len(numbers), -1) for numbers, scores in found])[order]


def _tagged(model: Predicting, asked: Asked) -> Iterator[dict[str, Any]]:
    """A word that the length cut off has neither a tag nor a probability."""
    assert asked.words is not None and asked.rows.words is not None, "tagging has words"
    classes, shape = model.kept.classes, asked.encoded.ids.shape
    best, likely = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.float64)
    for numbers, _, scores in outputs_in_batches(model.model, asked.encoded):
        rows, width = torch.from_numpy(numbers), scores.shape[1]
        likely[rows, :width], best[rows, :width] = torch.softmax(scores.double().cpu(), dim=-1).max(-1)
    tags, chances = best.flatten().tolist(), likely.flatten().tolist()
    start = 0
    for words in asked.rows.words:
        places = asked.words[start : start + len(words)].tolist()
        start += len(words)
        yield {
            "prediction": [classes[tags[place]] if place >= 0 else None for place in places],
            "probability": [round(chances[place], DIGITS) if place >= 0 else None for place in places],
        }


def _answered(model: Predicting, asked: Asked) -> Iterator[dict[str, Any]]:
    """No probability: that of a piece of one window says nothing of the other windows."""
    assert asked.windows is not None and asked.encoded.context is not None, "span has windows"
    spans = np.zeros((len(asked.encoded), 4), dtype=np.float32)
    for numbers, chosen, scores in outputs_in_batches(model.model, asked.encoded):
        context = asked.encoded.context.index_select(0, chosen)[:, : scores.shape[1]]
        spans[numbers] = best_spans(scores, context).float().cpu().numpy()
    for answer in answers_of_rows(spans, asked.windows, asked.rows, may_be_absent=model.kept.may_be_absent):
        yield {"prediction": answer}


_ANSWERS: dict[Kind, Callable[[Predicting, Asked], Iterator[dict[str, Any]]]] = {
    "classification": _classified,
    "regression": _valued,
    "choice": _chosen,
    "tagging": _tagged,
    "span": _answered,
}
