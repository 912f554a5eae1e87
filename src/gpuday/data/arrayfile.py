"""One array in one file: a JSON header of fixed size, then the little-endian values. Memory-mapped; checksummed.

The header carries the xxh3-128 of the values and of itself, so that every byte of the file is covered.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from gpuday.core.errors import DataError

HEADER_BYTES = 1024
MAGIC = "gpuday-array-1"
_READ_BYTES = 16 << 20
_DAMAGED = "the file is damaged: remove its folder and prepare the data again"


class ArrayWriter:
    """Appends rows to a new array file; `close` fills in the header and makes the file durable."""

    def __init__(self, path: Path, dtype: str, row_shape: tuple[int, ...] = ()) -> None:
        self._path, self._dtype, self._row_shape = path, np.dtype(dtype).newbyteorder("<"), row_shape
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
        self._file.seek(0)
        self._file.write(seal(header).ljust(HEADER_BYTES - 1) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return digest


def write_array(path: Path, pieces: Iterable[NDArray[Any]], dtype: str, row_shape: tuple[int, ...] = ()) -> str:
    """Write the concatenation of `pieces` [n_i, *row_shape]; returns the xxh3-128 of the values."""
    writer = ArrayWriter(path, dtype, row_shape)
    try:
        for piece in pieces:
            writer.append(piece)
    except BaseException:
        writer.abandon()
        raise
    return writer.close()


def read_header(path: Path) -> dict[str, Any]:
    """The checked header {dtype, shape, xxh3}. Raises DataError for a missing, cut-off or foreign file."""
    try:
        with open(path, "rb") as file:
            raw, size = file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", fix=_DAMAGED) from error
    header = unseal(raw, path)
    if header.get("magic") != MAGIC:
        raise DataError(f"{path} is not an array file of this version", fix=_DAMAGED)
    count = int(np.prod(header["shape"], dtype=np.int64))
    if size != HEADER_BYTES + count * np.dtype(header["dtype"]).itemsize:
        raise DataError(f"{path} has {size:,} bytes, not what its header says", fix=_DAMAGED)
    return header


def open_array(path: Path) -> NDArray[Any]:
    """The array, memory-mapped read-only. Checks header and size; the values are checked by `verify_array`."""
    header = read_header(path)
    if 0 in header["shape"]:
        return np.zeros(header["shape"], dtype=header["dtype"])  # an empty range cannot be mapped
    return np.memmap(path, mode="r", offset=HEADER_BYTES, dtype=header["dtype"], shape=tuple(header["shape"]))


def verify_array(path: Path, expected: str | None = None) -> None:
    """Read every byte. Raises DataError naming the file when the values are not those that were written."""
    header, digest = read_header(path), xxhash.xxh3_128()
    with open(path, "rb") as file:
        file.seek(HEADER_BYTES)
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != header["xxh3"] or (expected is not None and expected != header["xxh3"]):
        raise DataError(f"{path} does not match its checksum", fix=_DAMAGED)


def seal(value: dict[str, Any]) -> bytes:
    """JSON of a dictionary together with its own checksum."""
    return json.dumps({**value, "checksum": _digest(value)}, separators=(",", ":")).encode()


def unseal(raw: bytes, path: Path) -> dict[str, Any]:
    """The dictionary of `seal`. Raises DataError naming the file when it was changed."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}", fix=_DAMAGED) from error
    if not isinstance(value, dict) or value.pop("checksum", None) != _digest(value):
        raise DataError(f"{path} does not match its checksum", fix=_DAMAGED)
    return value


def _digest(value: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
