"""What a masked language model makes of a text file: pseudo-perplexity, and bits per byte of whole masked words.

Pseudo-perplexity is exp(-mean log p) over tokens, each masked alone (Salazar et al., arXiv 1910.14659): it depends on the
tokenizer, and takes a forward pass a token, so that a sample of tokens is asked. Bits per byte compares tokenizers that
share a normaliser, and is the question of `gpuday.data.words`: 15% of the words, all tokens of each masked.

Its interval is over documents that might have been read instead: the tokens of one are alike, so that whole documents are
resampled. Which of a document's tokens were drawn differs between them, and is in it too.
"""

import math
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from gpuday.core.errors import DataError
from gpuday.core.seeds import generator, stream_seed
from gpuday.data.document import Document, DropCounter
from gpuday.data.sources.files import Files
from gpuday.data.tokenizer import TextTokenizer
from gpuday.data.words import WordQuestion, write_words
from gpuday.evaluate.finetune import Tell
from gpuday.evaluate.intervals import LEAST_SEEDS, Interval, ratio_interval
from gpuday.evaluate.pseudo_likelihood import TokenRows, pick_predictor, token_log_p
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.word_bits import answer
from gpuday.train.device import describe

WORK = 1 << 18  # tokens in all forward passes for the pseudo-perplexity: 2,048 masked ones in rows of 128, 512 in 512
LONGEST = 512  # tokens of a row for the pseudo-perplexity, whatever more the model takes
MOST_BYTES = 1 << 19  # of text; of a longer file a sample of pieces
PIECE = 4096  # characters in a piece
VERSION = 3  # of the way a file is measured


def perplexity_section(subject: Subject, file: Path, *, seed: int = 0, progress: Tell | None = None) -> dict[str, Any]:
    """Pseudo-perplexity and word bits per byte of a text file, for `summary["probes"]["perplexity"]`.

    {"file", "pseudo_perplexity", "interval": see `interval_of`, beside it "no_interval" where there is none: why,
    "nats_per_token", "tokens": how many were masked, "tokens_read", "word_bits_per_byte", "word_bytes", "word_tokens", "words_skipped",
    "normalizer", "text_fingerprint", "documents", "bytes", "bytes_read", "length": tokens of its longest row, "seed",
    "seconds", "dtype", "device", "model_hash", "version"}.

    The file is any that training reads. Documents are framed as in training and laid into rows; of a file of more than
    512 KiB, pieces of 4,096 characters are drawn that have about as much. `word_bits_per_byte` is None for a text so short
    that none of its words is asked for.
    Raises UsageError for a subject without a head for masked tokens, DataError for a file without text.
    """
    started = time.perf_counter()
    predictor, dtype = pick_predictor(subject)
    tokenizer = text_tokenizer(subject)
    drops = DropCounter()
    size, documents = sample(file, seed, drops)
    if not documents:
        raise DataError(f"{file} holds no text", where="--perplexity", fix="give a file of text")
    rows, part_of = laid_out(subject, tokenizer, documents)
    asked = drawn(rows, longest(subject), seed)
    if not len(asked):
        raise DataError(f"the tokenizer leaves nothing of {file}", where="--perplexity", fix="give a file of text")
    nats = -token_log_p(subject, predictor, rows, asked, "original", progress=progress)
    mean = float(nats.mean())
    interval = interval_of(nats, asked, units(documents, part_of, rows), seed)
    with tempfile.TemporaryDirectory() as folder:
        first, last = subject.framed
        words = Path(folder) / "words"
        write_words(words, documents, tokenizer, length=subject.length, cls=first, sep=last, drops=drops)
        question = WordQuestion.open(words)
        found = answer(predictor, question, subject.device) if question.total_bytes else {}
    return {
        "file": file.name,
        "pseudo_perplexity": math.exp(mean),
        "interval": None if interval is None else asdict(interval),
        **({} if interval else {"no_interval": f"the text has fewer than {LEAST_SEEDS} rows to draw from"}),
        "nats_per_token": mean,
        "tokens": len(asked),
        "tokens_read": len(rows.text),
        "word_bits_per_byte": found.get("word_bits_per_byte"),
        "word_bytes": question.total_bytes,
        "word_tokens": int(question.is_target.sum()),
        "words_skipped": question.skipped,
        "normalizer": question.normalizer,
        "text_fingerprint": question.text_fingerprint,
        "documents": len({document.group for document in documents}),
        "bytes": size,
        "bytes_read": sum(len(document.text.encode()) for document in documents),
        "length": longest(subject),
        "seed": seed,
        "seconds": time.perf_counter() - started,
        "dtype": dtype,
        "device": describe(subject.device),
        "model_hash": subject.model_hash,
        "version": VERSION,
    }


def text_tokenizer(subject: Subject) -> TextTokenizer:
    """The subject's tokenizer as data preparation knows it. Raises DataError where it lacks a special token."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(subject.reader.tokenizer.to_str(), encoding="utf-8")
        return TextTokenizer.load(path)


def sample(file: Path, seed: int, drops: DropCounter) -> tuple[int, list[Document]]:
    """(UTF-8 bytes of the file's text, its documents, or pieces of them where it has more than 512 KiB).

    The pieces are chosen by a hash of the seed and their place. Two passes; memory holds the sample alone.
    """
    source = Files(path=str(file))
    size = sum(len(document.text.encode()) for document in source.documents(DropCounter()))
    if size <= MOST_BYTES:
        return size, list(source.documents(drops))
    threshold, salt = int(MOST_BYTES / size * 2**64), stream_seed(seed, "perplexity/pieces")
    pieces = (piece for document in source.documents(drops) for piece in _pieces(document))
    return size, [p for p in pieces if xxhash.xxh3_64_intdigest(p.id.encode(), seed=salt) < threshold]


def longest(subject: Subject) -> int:
    """Tokens of the longest row for the pseudo-perplexity."""
    return min(subject.length, LONGEST)


def laid_out(
    subject: Subject, tokenizer: TextTokenizer, documents: list[Document]
) -> tuple[TokenRows, NDArray[np.int64]]:
    """The documents between the special tokens of training, end to end, cut into rows, of which the last may be shorter; and
    the number of each token's document [T].

    No words: the pseudo-perplexity masks one token at a time.
    """
    first, last = subject.framed
    before, behind = [tokenizer.cls_id] if first else [], [tokenizer.sep_id] if last else []
    encoded = tokenizer.encode_batch([document.text for document in documents])
    parts = [[*before, *ids, *behind] for ids in encoded]
    tokens = np.fromiter((i for part in parts for i in part), np.int64)
    ends = {tokenizer.cls_id, tokenizer.sep_id}
    words = np.where(np.isin(tokens, list(ends)), -1, np.arange(len(tokens)))
    starts = np.append(np.arange(0, len(tokens), longest(subject)), len(tokens))
    return TokenRows(tokens, words, starts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def units(
    documents: list[Document], part_of: NDArray[np.int64], rows: TokenRows
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """(what, the number of each token's [T]) from the largest on: whole documents, the pieces of them that were read, rows."""
    groups = np.unique([document.group for document in documents], return_inverse=True)[1]
    yield "documents", groups[part_of]
    yield "pieces", part_of
    yield "rows", rows.row_of


def interval_of(
    nats: NDArray[np.float64],
    asked: NDArray[np.int64],
    owners: Iterable[tuple[str, NDArray[np.int64]]],
    seed: int,
) -> Interval | None:
    """The interval of the pseudo-perplexity over units that might have been read instead: the largest of which the asked
    tokens [C] lie in three or more; None where no unit is that small. A text of one document says nothing of other ones, and
    its interval is over its pieces or rows, as the method names them.
    """
    for what, owner in owners:
        unit = np.unique(owner[asked], return_inverse=True)[1]
        parts = np.stack([np.bincount(unit, nats), np.bincount(unit).astype(np.float64)], axis=1)
        if (found := ratio_interval(parts, what, seed=seed)) is not None:
            return replace(found, low=math.exp(found.low), high=math.exp(found.high))
    return None


def drawn(rows: TokenRows, length: int, seed: int) -> NDArray[np.int64]:
    """Numbers of the text's tokens that are asked for: all, or as many as the bound on work allows, drawn by the seed."""
    asked, most = rows.text, max(1, WORK // length)
    if len(asked) <= most:
        return asked
    return np.sort(generator(seed, "perplexity/tokens").choice(asked, most, replace=False))


def _pieces(document: Document) -> Iterator[Document]:
    """The document in pieces of about 4,096 characters that end between words."""
    text, start = document.text, 0
    while start < len(text):
        end = start + PIECE
        while end < len(text) and not text[end].isspace():
            end += 1
        if text[start:end].strip():
            yield Document(text[start:end], f"{document.id}#{start}", document.source, document.group)
        start = end
