"""Word bits per byte: how many bits a masked word of the held-out text costs, over the bytes it has.

The question is fixed by the raw text (see `gpuday.data.words`), so that it compares runs with different tokenizers,
as long as they share the normaliser: its name stands in the answer, and `comparable` refuses to mix them.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gpuday.core.errors import DataError
from gpuday.data.words import WordQuestion
from gpuday.evaluate.subject import Predictor
from gpuday.models.heads import MaskedLM
from gpuday.train.trained import Trained

ROWS = 32  # in a forward pass of a run's model
TOKENS = 4096  # in one of another predictor, all of whose logits exist at a time
POSITIONS = 1024  # whose logits exist in fp32 at a time: 128 MiB at a vocabulary of 32,768


def word_bits(trained: Trained) -> dict[str, Any]:
    """The answer of a run on its own held-out text, as plain values for summary.json; see `answer`."""
    question = WordQuestion.open(trained.run.data / "heldout.words")
    if question.vocabulary != trained.tokenizer.fingerprint:
        raise DataError(
            "the held-out words were written with another tokenizer",
            where=str(trained.run.data / "heldout.words"),
            fix="prepare the data again",
        )
    return answer(trained.predictor, question, trained.device)


def answer(model: MaskedLM | Predictor, question: WordQuestion, device: torch.device) -> dict[str, Any]:
    """Total -log2 p of the masked tokens over the raw UTF-8 bytes of their words, overall and by source.

    `skipped` counts chosen words that no model is asked for. The model computes in the dtype it is set to.
    """
    if question.total_bytes == 0:
        raise DataError("the held-out text has no words to ask for", fix="hold out more text")
    bits = row_bits(model, question, device)
    if not np.isfinite(bits).all():
        raise DataError("the model gives a held-out word no probability", fix="look at the run's held-out loss")
    sources = {
        name: float(bits[here].sum() / question.row_bytes[here].sum())
        for i, name in enumerate(question.sources)
        if (here := question.row_source == i).any()
    }
    return {
        "word_bits_per_byte": float(bits.sum() / question.total_bytes),
        "word_bits_per_byte_by_source": sources,
        "bytes": question.total_bytes,
        "tokens": int(question.is_target.sum()),
        "normalizer": question.normalizer,
        "text_fingerprint": question.text_fingerprint,
        "skipped": dict(question.skipped),
    }


def comparable(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Why two answers cannot be compared, or '' when they can."""
    if a["normalizer"] != b["normalizer"]:
        return f"normalisers differ ({a['normalizer']}, {b['normalizer']}): one has fewer characters to predict"
    if a["text_fingerprint"] != b["text_fingerprint"]:
        return "the held-out words differ"
    return ""


@torch.inference_mode()
def row_bits(model: MaskedLM | Predictor, question: WordQuestion, device: torch.device) -> NDArray[np.float64]:
    """-log2 p of the masked tokens, summed by row: float64 [R]."""
    if isinstance(model, MaskedLM):
        was_training = model.training
        totals = _row_bits(_RunModel(model.eval()), question, device, ROWS)
        model.train(was_training)
        return totals
    return _row_bits(_Whole(model), question, device, max(1, TOKENS // question.ids.shape[1]))


class _RunModel:
    """Logits by pieces, so that few of them exist at a time: (ids, mask, positions) -> pieces of at most POSITIONS."""

    def __init__(self, model: MaskedLM) -> None:
        self._model = model

    def pieces(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Iterator[Tensor]:
        hidden = self._model.encoder(ids, mask)
        return (self._model.predict(hidden, at).float() for at in positions.split(POSITIONS))


class _Whole:
    """The same of a predictor, which gives them at once."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def pieces(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Iterator[Tensor]:
        return iter(self._predictor.logits(ids, mask, positions).split(POSITIONS))


def _row_bits(
    asked: _RunModel | _Whole, question: WordQuestion, device: torch.device, at_once: int
) -> NDArray[np.float64]:
    totals = np.zeros(len(question.ids))
    # By length: rows are cut where another word or source did not fit, and padding costs as much as text.
    lengths = (question.labels != question.pad_id).sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), at_once):
        rows = order[start : start + at_once]
        width = int(lengths[rows].max())
        targets = question.is_target[rows, :width]
        ids = torch.from_numpy(question.ids[rows, :width]).to(device)
        positions = torch.from_numpy(np.flatnonzero(targets)).to(device)
        labels = torch.from_numpy(question.labels[rows, :width][targets]).to(device)
        pieces = [
            F.cross_entropy(logits, label, reduction="none")
            for logits, label in zip(
                asked.pieces(ids, ids != question.pad_id, positions), labels.split(POSITIONS), strict=True
            )
        ]
        nats = torch.cat(pieces).double().cpu().numpy()
        totals[rows] = np.bincount(np.nonzero(targets)[0], nats, minlength=len(rows)) / math.log(2)
    return totals
