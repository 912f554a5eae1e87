"""Files as streams of decoded bytes: plain, gzip, zstd or xz, with caps against decompression bombs.

1 GiB of zeros is 33 kB of zstd; both caps are checked while decoding, so such a file costs no more than the cap.
"""

import gzip
import io
import lzma
import os
import stat
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import zstandard

from gpuday.core.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_DECODED_BYTES = 50_000_000_000
MAX_RATIO = 200
RATIO_FREE_BYTES = 64 << 20  # short repetitive files may well exceed the ratio
COMPRESSIONS = (".gz", ".zst", ".xz")
Raw = io.BufferedIOBase | io.RawIOBase
_ZSTD_CHUNK = 4096  # at most 32,768 times as much comes out of one call


class DecodedLimit:
    """Counts decoded bytes of one file and raises DataError above 50 GB, or above 200:1 after 64 MiB."""

    def __init__(self, path: Path, encoded_bytes: int) -> None:
        self._path, self._encoded, self.decoded = path, max(encoded_bytes, 1), 0

    def add(self, count: int) -> None:
        """Book `count` more decoded bytes."""
        self.decoded += count
        if self.decoded > MAX_DECODED_BYTES:
            raise DataError(f"{self._path} decodes to more than {MAX_DECODED_BYTES:,} bytes", fix="split the file")
        if self.decoded > RATIO_FREE_BYTES and self.decoded > MAX_RATIO * self._encoded:
            raise DataError(
                f"{self._path} decodes to more than {MAX_RATIO} times its {self._encoded:,} bytes",
                fix="this looks like a decompression bomb; if it is not, give the file uncompressed",
            )


class _ZstdFrames(io.RawIOBase):
    """Decoded bytes of all frames. The library's own reader takes a cut-off file for a finished one; this does not."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._pending, self._input = file, memoryview(b""), b""
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, target: "WriteableBuffer") -> int:
        view = memoryview(target).cast("B")
        while not self._pending:
            if not self._input:
                self._input = self._file.read(_ZSTD_CHUNK)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("the last zstd frame is cut off")
                return 0
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._pending = memoryview(self._frame.decompress(self._input))
            self._input = b""
            if self._frame.eof:
                self._input, self._frame = self._frame.unused_data, None
        count = min(len(view), len(self._pending))
        view[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count


class _Guarded(io.RawIOBase):
    """A raw stream whose bytes are counted and whose faults become DataErrors that name the file."""

    def __init__(self, inner: Raw, file: BinaryIO, path: Path, limit: DecodedLimit | None) -> None:
        self._inner, self._file, self._path, self._limit = inner, file, path, limit

    def readable(self) -> bool:
        return True

    def readinto(self, target: "WriteableBuffer") -> int:
        try:
            count: int = self._inner.readinto(target)
        except (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise DataError(
                f"{self._path} cannot be read: {error}", fix="the file is cut off or damaged; fetch it again"
            ) from error
        if self._limit is not None:
            self._limit.add(count)
        return count

    def close(self) -> None:
        self._inner.close()
        self._file.close()  # decoders leave the file below them open
        super().close()


def check_regular(path: Path) -> os.stat_result:
    """The file's stat. Raises DataError for a missing path, a symlink loop, and anything that is not a plain file."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", fix="check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is not a regular file", fix="give a file, not a pipe, a device or a socket")
    return status


def open_decoded(path: Path) -> io.BufferedReader:
    """A buffered reader of the file's decoded bytes; the compression follows from the last suffix."""
    size = check_regular(path).st_size
    try:
        file = open(path, "rb")  # noqa: SIM115 - the caller closes the reader, which closes this
    except OSError as error:
        raise DataError(f"cannot open {path}: {error.strerror}", fix="check its permissions") from error
    inner: Raw = file
    if path.suffix == ".gz":
        inner = gzip.GzipFile(fileobj=file)
    elif path.suffix == ".xz":
        inner = lzma.LZMAFile(file)  # noqa: SIM115 - closed with the reader
    elif path.suffix == ".zst":
        inner = _ZstdFrames(file)
    limit = DecodedLimit(path, size) if path.suffix in COMPRESSIONS else None
    return io.BufferedReader(_Guarded(inner, file, path, limit), 1 << 20)
