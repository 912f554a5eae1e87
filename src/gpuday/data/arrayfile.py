"""One array in one file: a JSON header of fixed size, then the little-endian values. Memory-mapped; checksummed.

The header carries the xxh3-128 of the values and of itself, so that every byte of the file is covered.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from gpuday.core.sealed import Broken, DamagedFile, is_count, require, seal_inside, unreadable, unseal_inside

HEADER_BYTES = 1024
MAGIC = "gpuday-array-1"
_READ_BYTES = 16 << 20
_DTYPES = ("<u2", "<u4", "<i8", "<f4", "|u1")  # what an array file may hold: numbers, never objects


class ArrayWriter:
    """Appends rows to a new array file; `close` fills in the header and makes the file durable."""

    def __init__(self, path: Path, dtype: str, row_shape: tuple[int, ...] = (), *, owner: str = "") -> None:
        self._dtype, self._row_shape, self._owner = np.dtype(dtype).newbyteorder("<"), row_shape, owner
        self._hash, self.rows = xxhash.xxh3_128(), 0
        self._file = open(path, "xb")  # noqa: SIM115 - closed in `close`
        self._file.write(b" " * HEADER_BYTES)

    def append(self, values: NDArray[Any]) -> None:
        """Append values [n, *row_shape]."""
        if values.shape[1:] != self._row_shape:
            raise ValueError(f"rows of shape {values.shape[1:]}, not {self._row_shape}")
        raw = np.ascontiguousarray(values, dtype=self._dtype).data.cast("B") if values.size else b""
        self._hash.update(raw)
        self._file.write(raw)
        self.rows += len(values)

    def abandon(self) -> None:
        """Close the file without a header: it cannot be opened as an array."""
        self._file.close()

    def close(self) -> str:
        """Finish the file; returns the xxh3-128 of the values."""
        digest = self._hash.hexdigest()
        header = {"magic": MAGIC, "dtype": self._dtype.str, "shape": [self.rows, *self._row_shape], "xxh3": digest}
        if self._owner:
            header["owner"] = self._owner
        self._file.seek(0)
        self._file.write(_padded(header))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return digest


def write_array(
    path: Path, pieces: Iterable[NDArray[Any]], dtype: str, row_shape: tuple[int, ...] = (), *, owner: str = ""
) -> str:
    """Write the concatenation of `pieces` [n_i, *row_shape]; returns the xxh3-128 of the values.

    `owner` stands in the header of an array that no index vouches for: what it belongs to.
    """
    writer = ArrayWriter(path, dtype, row_shape, owner=owner)
    try:
        for piece in pieces:
            writer.append(piece)
    except BaseException:
        writer.abandon()
        raise
    return writer.close()


def read_header(path: Path) -> dict[str, Any]:
    """The checked header {dtype, shape, xxh3, owner}. Raises DamagedFile for a missing, cut-off or foreign file."""
    try:
        with open(path, "rb") as file:
            raw, size = file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        header = unseal_inside(raw.rstrip())
    except Broken as error:
        raise DamagedFile(path, "does not match its checksum") from error
    if raw != _padded(header):
        raise DamagedFile(path, "does not match its checksum")
    require(path, header.get("magic") == MAGIC, "that it is an array file of this version")
    dtype, shape = header.get("dtype"), cast("list[int]", header.get("shape"))
    require(path, isinstance(dtype, str) and dtype in _DTYPES, "which numbers it holds")
    require(path, isinstance(shape, list) and 0 < len(shape) < 3 and all(map(is_count, shape)), "how many it holds")
    require(path, isinstance(header.get("xxh3"), str), "their checksum")
    if size != HEADER_BYTES + math.prod(shape) * np.dtype(dtype).itemsize:
        raise DamagedFile(path, f"has {size:,} bytes, not what its header says")
    return {"owner": "", **header}


def open_array(path: Path) -> NDArray[Any]:
    """The array, memory-mapped read-only. Checks header and size; the values are checked by `verify_array`."""
    header = read_header(path)
    if 0 in header["shape"]:
        return np.zeros(header["shape"], dtype=header["dtype"])  # an empty range cannot be mapped
    return np.memmap(path, mode="r", offset=HEADER_BYTES, dtype=header["dtype"], shape=tuple(header["shape"]))


def verify_array(path: Path, expected: str | None = None) -> None:
    """Read every byte. Raises DamagedFile when the values are not those that were written."""
    header, digest = read_header(path), xxhash.xxh3_128()
    try:
        with open(path, "rb") as file:
            file.seek(HEADER_BYTES)
            while chunk := file.read(_READ_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise unreadable(path, error) from error
    if digest.hexdigest() != header["xxh3"] or (expected is not None and expected != header["xxh3"]):
        raise DamagedFile(path, "does not match its checksum")


def _padded(header: dict[str, Any]) -> bytes:
    return seal_inside(header).ljust(HEADER_BYTES - 1) + b"\n"
