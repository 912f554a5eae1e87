"""The held-out question that compares runs across tokenizers: word bits per byte.

15% of the white-space-delimited words of the raw held-out text (after Unicode NFC) are chosen by a hash of document and
position, so every tokenizer is asked for the same words. All tokens of a chosen word are masked. The answer is the
total of bits over all chosen words divided by their UTF-8 bytes. Runs must share the normaliser: one that deletes
characters has less to predict.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from gpuday.core.rundir import write_atomic
from gpuday.core.sealed import is_count, read_sealed, require, seal_inside
from gpuday.data.arrayfile import open_array, verify_array, write_array
from gpuday.data.document import Document, Drop, DropCounter
from gpuday.data.tokenizer import TextTokenizer

SHARE = 0.15
FORMAT = 1
_INDEX = "index.json"
_ARRAYS = {"labels": "<u4", "is_target": "|u1", "bytes": "<i8", "source": "<u2"}
_THRESHOLD = int(SHARE * 2**64)


@dataclass(frozen=True, kw_only=True)
class WordQuestion:
    """Rows of whole words, padded at the end. R rows of L tokens."""

    ids: NDArray[np.int64]
    """[R, L] model input: chosen words are masks."""
    labels: NDArray[np.int64]
    """[R, L] the true tokens."""
    is_target: NDArray[np.bool_]
    """[R, L] tokens of chosen words."""
    row_bytes: NDArray[np.int64]
    """[R] UTF-8 bytes of the chosen words in the row."""
    row_source: NDArray[np.int64]
    """[R] position in `sources`."""
    sources: tuple[str, ...]
    """Labels of the sources."""
    normalizer: str
    """Name of the tokenizer's normaliser; results of different ones are not comparable."""
    vocabulary: str
    """Fingerprint of the tokenizer."""
    pad_id: int
    """Id that fills up rows; attention leaves it out."""
    text_fingerprint: str
    """Hash of the chosen words: equal in two runs that are asked the same."""
    skipped: dict[str, int]
    """Chosen words that are not asked for, by reason."""

    @property
    def total_bytes(self) -> int:
        """UTF-8 bytes of all chosen words."""
        return int(self.row_bytes.sum())

    @classmethod
    def open(cls, folder: Path) -> "WordQuestion":
        """Read and check `heldout.words/`. Raises DataError naming the file that is damaged."""
        index = read_sealed(folder / _INDEX)
        _check_index(folder / _INDEX, index)
        arrays = {}
        for name in _ARRAYS:
            verify_array(folder / f"{name}.bin", index["xxh3"][name])
            arrays[name] = np.asarray(open_array(folder / f"{name}.bin"))
        rows = arrays["labels"].shape
        for name, shape in (("is_target", rows), ("bytes", rows[:1]), ("source", rows[:1])):
            require(folder / f"{name}.bin", arrays[name].shape == shape, "as many values as labels.bin")
        is_target = arrays["is_target"].astype(bool)
        labels = arrays["labels"].astype(np.int64)
        return cls(
            ids=np.where(is_target, index["mask_id"], labels),
            labels=labels,
            is_target=is_target,
            row_bytes=arrays["bytes"].astype(np.int64),
            row_source=arrays["source"].astype(np.int64),
            sources=tuple(index["sources"]),
            normalizer=index["normalizer"],
            vocabulary=index["vocabulary"],
            pad_id=index["pad_id"],
            text_fingerprint=index["text_fingerprint"],
            skipped=dict(index["skipped"]),
        )


def is_chosen(document_id: str, position: int) -> bool:
    """Whether the word at a position of a document is asked for."""
    return xxhash.xxh3_64_intdigest(f"{document_id}\0{position}".encode()) < _THRESHOLD


def write_words(
    folder: Path, documents: Iterable[Document], tokenizer: TextTokenizer, *, length: int, cls: bool, sep: bool,
    drops: DropCounter,
) -> None:  # fmt: skip
    """Write the question into a new folder. `cls` and `sep` say which tokens surround documents in training rows.

    A word with more tokens than fit a row, and one of which the normaliser leaves nothing, is skipped and counted.
    """
    folder.mkdir(parents=True)
    rows = _Rows(length, tokenizer.pad_id)
    before = [tokenizer.cls_id] if cls else []
    after = [tokenizer.sep_id] if sep else []
    digest, skipped = xxhash.xxh3_128(), {"longer than a row": 0, "nothing left after normalising": 0}
    known: dict[str, list[int]] = {}
    for document in documents:
        words = unicodedata.normalize("NFC", document.text).split()
        rows.source(document.source)
        rows.add(before, 0)
        for position, (word, ids) in enumerate(zip(words, _encoded(words, tokenizer, known), strict=True)):
            chosen = is_chosen(document.id, position)
            size = len(word.encode())
            if chosen:
                digest.update(word.encode() + b"\0")
            fault = "longer than a row" if len(ids) > length else "" if ids else "nothing left after normalising"
            if not fault:
                rows.add(ids, size if chosen else 0)
            elif chosen:
                skipped[fault] += 1
                drops.add("words", Drop(fault, word))
        rows.add(after, 0)
    arrays = rows.finish()
    checksums = {
        name: write_array(folder / f"{name}.bin", [array], _ARRAYS[name], array.shape[1:])
        for name, array in arrays.items()
    }
    index = {
        "format": FORMAT,
        "xxh3": checksums,
        "sources": rows.sources,
        "normalizer": tokenizer.normalizer,
        "vocabulary": tokenizer.fingerprint,
        "mask_id": tokenizer.mask_id,
        "pad_id": tokenizer.pad_id,
        "text_fingerprint": digest.hexdigest(),
        "skipped": skipped,
        "bytes": int(arrays["bytes"].sum()),
        "words_share": SHARE,
    }
    write_atomic(folder / _INDEX, seal_inside(index))


def _check_index(path: Path, index: dict[str, Any]) -> None:
    """Raise DamagedFile unless an index says all that a question asks of it."""
    sums, sources, skipped = index.get("xxh3"), index.get("sources"), index.get("skipped")
    require(path, index.get("format") == FORMAT, f"that it is of format {FORMAT}")
    require(path, isinstance(sums, dict) and all(isinstance(sums.get(n), str) for n in _ARRAYS), "its checksums")
    require(path, isinstance(sources, list) and all(isinstance(s, str) for s in sources), "its sources")
    require(path, all(is_count(index.get(key)) for key in ("mask_id", "pad_id")), "its special tokens")
    texts = ("normalizer", "vocabulary", "text_fingerprint")
    require(path, all(isinstance(index.get(key), str) for key in texts), "what it was made from")
    require(path, isinstance(skipped, dict) and all(map(is_count, skipped.values())), "what was skipped")


def _encoded(words: list[str], tokenizer: TextTokenizer, known: dict[str, list[int]]) -> Iterator[list[int]]:
    """Tokens of each word as it stands inside a text: tokens never cross white space, so words can be cut apart.

    New words are added to `known`; held-out text is small, and so is what it holds.
    """
    new = [word for word in dict.fromkeys(words) if word not in known]
    known.update(zip(new, tokenizer.encode_batch([f" {word}" for word in new]), strict=True))
    return map(known.__getitem__, words)


class _Rows:
    """Fills rows with whole words."""

    def __init__(self, length: int, pad: int) -> None:
        self._length, self._pad = length, pad
        self._labels: list[list[int]] = []
        self._targets: list[list[bool]] = []
        self._bytes: list[int] = []
        self._source: list[int] = []
        self.sources: list[str] = []
        self._current = -1

    def source(self, label: str) -> None:
        """The source of what follows; another one starts a new row."""
        if label not in self.sources:
            self.sources.append(label)
        if self.sources.index(label) != self._current:
            self._current = self.sources.index(label)
            self._new_row()

    def add(self, ids: list[int], target_bytes: int) -> None:
        """Append the tokens of one word, in a new row if they do not fit."""
        if len(self._labels[-1]) + len(ids) > self._length:
            self._new_row()
        self._labels[-1].extend(ids)
        self._targets[-1].extend([target_bytes > 0] * len(ids))
        self._bytes[-1] += target_bytes

    def finish(self) -> dict[str, NDArray[Any]]:
        """Arrays of the rows that ask for something."""
        asked = [i for i, size in enumerate(self._bytes) if size]
        labels = np.full((len(asked), self._length), self._pad, dtype=np.int64)
        targets = np.zeros((len(asked), self._length), dtype=np.uint8)
        for out, i in enumerate(asked):
            labels[out, : len(self._labels[i])] = self._labels[i]
            targets[out, : len(self._targets[i])] = self._targets[i]
        sizes, sources = np.array(self._bytes, dtype=np.int64), np.array(self._source, dtype=np.int64)
        return {"labels": labels, "is_target": targets, "bytes": sizes[asked], "source": sources[asked]}

    def _new_row(self) -> None:
        self._labels.append([])
        self._targets.append([])
        self._bytes.append(0)
        self._source.append(self._current)
