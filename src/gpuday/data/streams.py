"""Files as streams of decoded bytes: plain, gzip, zstd or xz, with caps against decompression bombs.

1 GiB of zeros is 33 kB of zstd; both caps are checked while decoding, so such a file costs no more than the cap.
"""

import codecs
import gzip
import io
import lzma
import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

import zstandard

from gpuday.core.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_DECODED_BYTES = 50_000_000_000
MAX_RATIO = 200
RATIO_FREE_BYTES = 64 << 20  # short repetitive files may well exceed the ratio
COMPRESSIONS = (".gz", ".zst", ".xz")
Raw = io.BufferedIOBase | io.RawIOBase
_CHUNK = 4096  # at most 32,768 times as much comes out of one call
_MEMORY = 128 << 20  # zstd's own limit; `xz -9` needs 65 MiB; a file may ask for 4 GiB
_TOO_MUCH_MEMORY = (
    "zstd decompressor error: Frame requires too much memory for decoding",
    "Memory usage limit exceeded",
)
_PDF = b"%PDF-"  # is text, and so may begin one
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh91AY&SY": "bzip2",
    b"PK\x03\x04": "zip",
    _PDF: "PDF",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_OF_SUFFIX = {".gz": "gzip", ".zst": "zstd", ".xz": "xz"}


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


class _Decoder(Protocol):
    """What zstandard and lzma give for one frame or stream."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


class _Frames(io.RawIOBase):
    """Decoded bytes of all frames of a zstd or xz file, zeros between them passed over.

    The zstd library's own reader takes a cut-off file for a finished one, and xz's sets no limit to its memory.
    """

    def __init__(self, file: BinaryIO, begin: Callable[[], _Decoder]) -> None:
        self._file, self._begin, self._pending, self._input = file, begin, memoryview(b""), b""
        self._frame: _Decoder | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, target: "WriteableBuffer") -> int:
        view = memoryview(target).cast("B")
        while not self._pending:
            if not self._input:
                self._input = self._file.read(_CHUNK)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("its last frame is cut off")
                return 0
            if self._frame is None:
                self._input = self._input.lstrip(b"\0")
                if not self._input:
                    continue
                self._frame = self._begin()
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
            fix = "the file is cut off or damaged; fetch it again"
            if str(error) in _TOO_MUCH_MEMORY:
                fix = f"compress it again with a window of at most {_MEMORY >> 20} MiB, as zstd and xz do by default"
            raise DataError(f"{self._path} cannot be read: {error}", fix=fix) from error
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


def check_content(path: Path, head: bytes) -> None:
    """Raise DataError for a file that begins as one of another kind than its last suffix says."""
    found = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if head.startswith(_PDF) and _is_text(head):
        return
    said = _OF_SUFFIX.get(path.suffix)
    if found == "UTF-16" and said is None:
        raise DataError(
            f"{path}: UTF-16, whose lines cannot be used",
            fix="convert it to UTF-8, for example with iconv -f UTF-16 -t UTF-8",
        )
    if found not in (None, "UTF-16", said):
        raise DataError(
            f"{path} holds {found} data, not what its name says",
            fix="rename it" if found in _OF_SUFFIX.values() else "unpack or convert it to text first",
        )


def _is_text(head: bytes) -> bool:
    """Whether the beginning of a file is UTF-8 without NUL, its last character perhaps cut off."""
    try:
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False


def open_decoded(path: Path) -> io.BufferedReader:
    """A buffered reader of the file's decoded bytes; the compression follows from the last suffix."""
    size = check_regular(path).st_size
    try:
        file = open(path, "rb")  # noqa: SIM115 - the caller closes the reader, which closes this
    except OSError as error:
        raise DataError(f"cannot open {path}: {error.strerror}", fix="check its permissions") from error
    try:
        check_content(path, file.peek())
    except BaseException:
        file.close()
        raise
    return decoded(file, path, size)


def decoded(file: BinaryIO, path: Path, encoded_bytes: int) -> io.BufferedReader:
    """A buffered reader of what a stream decodes to; the stream is closed with it. `path` stands in the errors."""
    inner = cast(Raw, file)
    if path.suffix == ".gz":
        inner = gzip.GzipFile(fileobj=file)
    elif path.suffix == ".xz":
        inner = _Frames(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY))
    elif path.suffix == ".zst":
        inner = _Frames(file, lambda: zstandard.ZstdDecompressor(max_window_size=_MEMORY).decompressobj())
    limit = DecodedLimit(path, encoded_bytes) if path.suffix in COMPRESSIONS else None
    return io.BufferedReader(_Guarded(inner, file, path, limit), 1 << 20)
