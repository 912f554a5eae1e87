"""Pseudo-log-likelihoods: the log-probability of every token of a sentence, each masked in turn, added up.

Salazar et al., arXiv 1910.14659. Where words have several tokens, the ones behind it give a token away; `within_word_l2r`
masks those of its own word too (Kauf & Ivanova, arXiv 2305.10588). Words are the tokenizer's. Shapes: R rows, T tokens in
all rows, C tokens that are asked for, B rows of L tokens in a forward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate.finetune import Tell
from gpuday.evaluate.reading import Tokens
from gpuday.evaluate.subject import Predictor, Subject
from gpuday.train.device import has_bf16

Variant = Literal["original", "within_word_l2r"]
TOKENS = {"cpu": 4096, "cuda": 1 << 16}  # in a forward pass; a CPU's fits its cache, and more is no faster
# In all passes, from which on a CPU compiles: that takes 36 s of a core beside the C++ compiler's, and saves 20 us a token
# of a 4x256 model on one core.
COMPILED_FROM = 1 << 23
LOGITS = 1 << 28  # in a forward pass: asked tokens times vocabulary, 1 GiB of fp32
SHOWN = 60  # characters of a sentence in an error


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens, end to end."""

    ids: NDArray[np.int64]
    """[T]"""
    words: NDArray[np.int64]
    """[T] the number of each token's word in its row; -1 at special tokens, which are never asked for."""
    starts: NDArray[np.int64]
    """[R + 1] where rows begin; the last is T."""

    @classmethod
    def of(cls, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> "TokenRows":
        """From the (ids, words) of each row."""
        starts = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(ids) for ids, _ in rows], out=starts[1:])
        ids, words = (np.fromiter((i for row in rows for i in row[part]), np.int64, starts[-1]) for part in (0, 1))
        return cls(ids, words, starts)

    @property
    def row_of(self) -> NDArray[np.int64]:
        """[T] the number of each token's row."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @property
    def text(self) -> NDArray[np.int64]:
        """Numbers of the tokens of text."""
        return np.flatnonzero(self.words >= 0)


def pick_predictor(subject: Subject) -> tuple[Predictor, str]:
    """(what predicts masked tokens, its dtype): bf16 where the device is fast in it. Raises UsageError where nothing does."""
    dtype = torch.bfloat16 if has_bf16(subject.device) else torch.float32
    predictor = subject.predictor(dtype)
    if predictor is None or subject.headless:
        raise UsageError(
            f"{subject.name} cannot be asked for masked tokens: {subject.headless or subject.no_predictor}",
            fix="leave --pairs and --perplexity out for it",
        )
    return predictor, str(dtype).removeprefix("torch.")


def read_sentences(subject: Subject, sentences: Sequence[str]) -> TokenRows:
    """A row for each, between the special tokens that stood around documents in training.

    Raises DataError for one that is longer than the model's rows, or of which the tokenizer leaves nothing.
    """
    first, last = subject.framed
    rows = []
    for sentence, tokens in zip(sentences, _located(subject, sentences), strict=True):
        ids, words = list(tokens.ids), list(tokens.word_of)
        if not first and words[0] < 0:
            ids, words = ids[1:], words[1:]
        if not last and words[-1] < 0:
            ids, words = ids[:-1], words[:-1]
        if len(ids) > subject.length:
            what = f"a sentence has more tokens than the {subject.length} of the model's rows"
            raise DataError(what, where=repr(sentence[:SHOWN]), fix="leave it out, or give a model of longer rows")
        if max(words, default=-1) < 0:
            raise DataError(
                "the tokenizer leaves nothing of a sentence", where=repr(sentence[:SHOWN]), fix="leave it out"
            )
        rows.append((ids, words))
    return TokenRows.of(rows)


def log_likelihoods(
    subject: Subject, predictor: Predictor, rows: TokenRows, variant: Variant, *, progress: Tell | None = None
) -> NDArray[np.float64]:
    """The pseudo-log-likelihood of each row in nats: float64 [R]. A sum, so that longer rows have lower ones."""
    asked = rows.text
    found = token_log_p(subject, predictor, rows, asked, variant, progress=progress)
    sums = np.zeros(len(rows.starts) - 1, dtype=np.float64)
    np.add.at(sums, rows.row_of[asked], found)
    return sums


@torch.inference_mode()
def token_log_p(
    subject: Subject,
    predictor: Predictor,
    rows: TokenRows,
    asked: NDArray[np.int64],
    variant: Variant,
    *,
    progress: Tell | None = None,
) -> NDArray[np.float64]:
    """log p of each asked token [C], masked in a copy of its row: float64 [C], in nats.

    Each pass takes copies of one length, so that nothing is padded. Log-probabilities are computed in fp32.
    """
    device, row_of, lengths = subject.device, rows.row_of, np.diff(rows.starts)
    vocabulary = subject.reader.tokenizer.get_vocab_size(with_added_tokens=True)
    order = np.argsort(lengths[row_of[asked]], kind="stable")
    work = int(lengths[row_of[asked]].sum())  # not a clock: what is asked decides in which kernels it is answered
    if device.type == "cpu" and work >= COMPILED_FROM:
        predictor.compile(lambda message: progress("notice", message=message) if progress else None)
    found, done = [], 0
    while done < len(order):
        length = int(lengths[row_of[asked[order[done]]]])
        most = max(1, min(TOKENS[device.type] // length, LOGITS // vocabulary))
        batch = asked[order[done : done + most]]
        batch = batch[lengths[row_of[batch]] == length]
        ids, places = _masked(rows, batch, length, subject.reader.mask_id, variant)
        logits = predictor.logits_at(torch.from_numpy(ids).to(device), torch.from_numpy(places).to(device))
        truth = torch.from_numpy(rows.ids[batch]).to(device)
        found.append(logits.gather(1, truth[:, None])[:, 0] - logits.logsumexp(1))
        done += len(batch)
        if progress is not None:
            progress("progress", room="masked tokens", done=done, total=len(order))
    values = np.zeros(len(order))
    if found:
        values[order] = torch.cat(found).double().cpu().numpy()
    if not np.isfinite(values).all():
        raise DataError(
            f"{subject.name} gives a token of the text no probability", fix="look at the run's held-out loss"
        )
    return values


def _located(subject: Subject, sentences: Sequence[str]) -> Sequence[Tokens]:
    """Tokens of each sentence, cut above what the model takes, so that a longer one shows."""
    specials = 2
    return subject.reader.pairs(sentences, None, subject.length + specials + 1, located=True)


def _masked(
    rows: TokenRows, batch: NDArray[np.int64], length: int, mask_id: int, variant: Variant
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(ids [B, L] of each token's row with what is hidden to score it masked, its place [B] in the row)"""
    starts = rows.starts[np.searchsorted(rows.starts, batch, side="right") - 1]
    places = batch - starts
    columns = np.arange(length)
    index = starts[:, None] + columns
    if variant == "original":
        hidden = columns == places[:, None]
    else:
        hidden = (columns >= places[:, None]) & (rows.words[index] == rows.words[batch][:, None])
    return np.where(hidden, mask_id, rows.ids[index]), places
