"""The token store: packed rows in ordered shards, memory-mapped, random access by row, every byte checksummed.

```
train.tok/  index.json      format, dtype, row length, shards with source, rows, documents, checksums; its own checksum
            00000.bin       uint16 or uint32 [rows, length]
            00000.docs.bin  int64 [documents]: where each document starts in the shard, in tokens
            scores/NAME.bin float32 [rows]
```
A shard holds documents of one source and about as many characters as any other, cut by the input sequence alone.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gpuday.core.errors import DataError
from gpuday.core.rundir import check_name, fsync_folder, write_atomic
from gpuday.core.sealed import DamagedFile, digest, is_count, read_sealed, require, seal_inside
from gpuday.data.arrayfile import ArrayWriter, open_array, read_header, verify_array, write_array

FORMAT = 1
_INDEX = "index.json"
_BLOCK_TOKENS = 1 << 20


@dataclass(frozen=True)
class TokenStore:
    """Rows of tokens on disk. Safe to share between threads; a child process opens its own."""

    folder: Path
    index: dict[str, Any] = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> "TokenStore":
        """Check the index and every file's header and size (not the tokens: see `verify`)."""
        index = read_sealed(folder / _INDEX)
        require(folder / _INDEX, index.get("format") == FORMAT, f"that it is of format {FORMAT}")
        _check_index(folder / _INDEX, index)
        for shard in index["shards"]:
            for name, shape, checksum in (
                (shard["file"], [shard["rows"], index["length"]], shard["xxh3"]),
                (shard["documents_file"], [shard["documents"]], shard["documents_xxh3"]),
            ):
                header = read_header(folder / name)
                if header["shape"] != shape or header["xxh3"] != checksum:
                    raise DamagedFile(folder / name, f"does not belong to {_INDEX}")
        return cls(folder, index)

    def __len__(self) -> int:
        """Rows in all."""
        return int(self.index["rows"])

    @property
    def length(self) -> int:
        """Tokens in a row."""
        return int(self.index["length"])

    @property
    def vocabulary(self) -> str:
        """Fingerprint of the tokenizer that wrote the tokens."""
        return str(self.index["vocabulary"])

    @property
    def sources(self) -> list[str]:
        """Labels of the sources; `source_of` gives positions in this list."""
        return list(self.index["sources"])

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """First row of each shard, and the number of rows; [shards + 1]."""
        return np.cumsum([0, *(shard["rows"] for shard in self.index["shards"])], dtype=np.int64)

    @cached_property
    def _maps(self) -> list[NDArray[Any]]:
        return [open_array(self.folder / shard["file"]) for shard in self.index["shards"]]

    @cached_property
    def _documents(self) -> list[NDArray[Any]]:
        return [open_array(self.folder / shard["documents_file"]) for shard in self.index["shards"]]

    def rows(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens int64 [R, length] of the rows int64 [R]."""
        indices, shards = self._locate(indices)
        out = np.empty((len(indices), self.length), dtype=np.int64)
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            out[here] = self._maps[shard][indices[here] - self._starts[shard]]
        return out

    def segments(self, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        """For every token of the rows [R] the number of its document inside the row, from 0; int32 [R, length]."""
        indices, shards = self._locate(indices)
        out = np.empty((len(indices), self.length), dtype=np.int32)
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            first = (indices[here] - self._starts[shard])[:, None] * self.length
            documents = np.searchsorted(self._documents[shard], first + np.arange(self.length), side="right")
            out[here] = documents - documents[:, :1]
        return out

    def most_documents(self) -> int:
        """The most documents in any row, the one that runs on from the row before among them; 0 without rows."""
        most = 0
        for shard, starts in zip(self.index["shards"], self._documents, strict=True):
            row, within = np.divmod(np.unique(starts), self.length)
            begun = np.bincount(row[row < shard["rows"]], minlength=shard["rows"])
            begun[np.setdiff1d(np.arange(shard["rows"]), row[within == 0])] += 1
            most = max(most, int(begun.max()))
        return most

    def source_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Position in `sources` for each of the rows [R]."""
        _, shards = self._locate(indices)
        return np.array([shard["source"] for shard in self.index["shards"]], dtype=np.int64)[shards]

    def blocks(self) -> Iterator[NDArray[Any]]:
        """All rows in order, [R, length] of about a million tokens at a time, in the stored type."""
        rows = max(1, _BLOCK_TOKENS // self.length)
        for shard in self.index["shards"]:
            tokens = open_array(self.folder / shard["file"])  # not kept: pages that stay mapped count as memory
            for start in range(0, len(tokens), rows):
                yield tokens[start : start + rows]

    def has_scores(self, name: str) -> bool:
        """Whether `write_scores` has run for this name."""
        return self._scores_path(name).exists()

    def scores(self, name: str) -> NDArray[np.float32]:
        """Scores float32 [rows] of that name. Raises DataError when they were not computed."""
        if not self.has_scores(name):
            raise DataError(f"{self.folder} has no scores {name!r}", fix="prepare the data with that order")
        path = self._scores_path(name)
        scores = open_array(path)
        require(path, scores.shape == (len(self),), f"{len(self):,} scores")
        require(path, read_header(path)["owner"] == self._owner(name), f"that its scores are {name} of this store")
        return scores

    def write_scores(self, name: str, pieces: Iterable[NDArray[np.float32]]) -> None:
        """Store a score for every row, whole or not at all."""
        path = self._scores_path(name)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
        for stale in path.parent.glob(f".{name}.*.tmp"):
            stale.unlink()  # a kill left it
        write_array(temporary, pieces, "<f4", owner=self._owner(name))
        if read_header(temporary)["shape"] != [len(self)]:
            temporary.unlink()
            raise ValueError(f"{name} does not give one score a row")
        os.replace(temporary, path)
        fsync_folder(path.parent)

    def verify(self) -> None:
        """Read everything. Raises DamagedFile naming the first file that is not what was written."""
        require(
            self.folder / _INDEX, read_sealed(self.folder / _INDEX) == self.index, "what it said when it was opened"
        )
        for shard in self.index["shards"]:
            verify_array(self.folder / shard["file"], shard["xxh3"])
            verify_array(self.folder / shard["documents_file"], shard["documents_xxh3"])
        for path in sorted((self.folder / "scores").glob("[!.]*.bin")):
            verify_array(path)
            self.scores(path.stem)

    def _owner(self, name: str) -> str:
        """What the header of scores says, so that neither another order's nor another store's are taken for them."""
        return f"{name} {digest(seal_inside(self.index))}"

    def _scores_path(self, name: str) -> Path:
        return self.folder / "scores" / f"{check_name(name)}.bin"

    def _locate(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= len(self)):
            raise IndexError(f"rows must lie in range({len(self)})")
        return indices, np.searchsorted(self._starts, indices, side="right") - 1


class TokenWriter:
    """Writes a token store shard by shard; the folder appears under its name in `finish`.

    A context manager: leaving it before that removes what was written.
    """

    def __init__(self, folder: Path, *, length: int, vocab_size: int, vocabulary: str) -> None:
        self._folder, self._length = folder, length
        self._temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self.dtype = "<u2" if vocab_size <= 1 << 16 else "<u4"
        self._meta = {"format": FORMAT, "dtype": self.dtype, "length": length, "vocabulary": vocabulary}
        self._shards: list[dict[str, Any]] = []
        self._sources: list[str] = []
        self._open: ArrayWriter | None = None

    def __enter__(self) -> "TokenWriter":
        return self

    def __exit__(self, *fault: object) -> None:
        if self._open is not None:
            with contextlib.suppress(OSError):  # what the disk did not take is thrown away anyway
                self._open.abandon()
        shutil.rmtree(self._temporary, ignore_errors=True)  # gone already where it was finished

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows [R, length] to the current shard."""
        if self._open is None:
            self._open = ArrayWriter(self._temporary / f"{len(self._shards):05d}.bin", self.dtype, (self._length,))
        self._open.append(rows)

    def end_shard(self, source: str, starts: NDArray[np.int64]) -> None:
        """Close the shard; `starts` [documents] are token offsets in it. A shard without rows leaves no file."""
        if self._open is None:
            return
        name, rows = f"{len(self._shards):05d}", self._open.rows
        digest, self._open = self._open.close(), None
        if source not in self._sources:
            self._sources.append(source)
        documents = write_array(self._temporary / f"{name}.docs.bin", [starts], "<i8")
        self._shards.append(
            {
                "file": f"{name}.bin",
                "source": self._sources.index(source),
                "rows": rows,
                "xxh3": digest,
                "documents": len(starts),
                "documents_file": f"{name}.docs.bin",
                "documents_xxh3": documents,
            }
        )

    def finish(self) -> TokenStore:
        """Write the index, make everything durable and move the folder into place."""
        rows, documents = (sum(shard[key] for shard in self._shards) for key in ("rows", "documents"))
        counts = {"rows": rows, "tokens": rows * self._length, "documents": documents}
        index = {**self._meta, **counts, "sources": self._sources, "shards": self._shards}
        write_atomic(self._temporary / _INDEX, seal_inside(index))
        fsync_folder(self._temporary)
        os.rename(self._temporary, self._folder)
        fsync_folder(self._folder.parent)
        return TokenStore.open(self._folder)


def _check_index(path: Path, index: dict[str, Any]) -> None:
    """Raise DamagedFile unless an index says all that a store asks of it, with names of its own folder only."""
    require(path, index.get("dtype") in ("<u2", "<u4"), "its dtype")
    require(path, is_count(index.get("length")) and index["length"] > 0, "its length")
    require(path, isinstance(index.get("vocabulary"), str), "its vocabulary")
    sources, shards = (cast("list[Any]", index.get(key)) for key in ("sources", "shards"))
    require(path, isinstance(sources, list) and all(isinstance(s, str) for s in sources), "its sources")
    require(path, isinstance(shards, list), "its shards")
    for number, shard in enumerate(shards):
        require(path, isinstance(shard, dict), f"what shard {number} is")
        names = {"file": f"{number:05d}.bin", "documents_file": f"{number:05d}.docs.bin"}
        require(path, names.items() <= shard.items(), f"the files of shard {number}")
        counts = all(is_count(shard.get(key)) for key in ("rows", "documents", "source"))
        require(path, counts and shard["rows"] > 0, f"the counts of shard {number}")
        require(path, shard["source"] < len(sources), f"the source of shard {number}")
        sums = all(isinstance(shard.get(key), str) for key in ("xxh3", "documents_xxh3"))
        require(path, sums, f"the checksums of shard {number}")
    rows, documents = (sum(shard[key] for shard in shards) for key in ("rows", "documents"))
    totals = {"rows": rows, "tokens": rows * index["length"], "documents": documents}
    require(path, totals.items() <= index.items(), "its totals")
