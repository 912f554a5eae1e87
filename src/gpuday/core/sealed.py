"""JSON that carries the checksum of its own content, and is taken only to the byte as it was written.

Two layouts: an envelope `{"content": ..., "xxh3_128": ...}` and, where other programs look for the keys, the checksum as
the last of them. A seal says that a file is unchanged since it was written, not that it is ours: who opens one still
looks at what the keys hold.
"""

import json
from pathlib import Path
from typing import Any

import xxhash

from gpuday.core.errors import DataError, EnvironmentFault, GpudayError

CHECKSUM = "checksum"
_COMPACT = (",", ":")


class Broken(ValueError):
    """Bytes that are not what `seal` or `seal_inside` wrote."""


class DamagedFile(DataError):
    """A file of prepared data that is missing, or not what was written."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} {what}", fix="the file is damaged: remove its folder and prepare the data again")
        self.path = path


def unreadable(path: Path, error: OSError) -> GpudayError:
    """What the system's refusal to read a file says of it: DamagedFile where there is none, or no file. Everything else,
    such as another user's rights or a disk that answers no more, says nothing against what was written."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return DamagedFile(path, f"cannot be read: {error.strerror}")
    return EnvironmentFault(
        f"{path} cannot be read: {error.strerror}",
        fix="see that you may read it and that its disk is there; or move its folder away, and it is made again",
    )


def digest(data: bytes) -> str:
    """xxh3-128, in hexadecimal."""
    return xxhash.xxh3_128_hexdigest(data)


def seal(content: dict[str, Any]) -> bytes:
    """The envelope of a dictionary of JSON values."""
    text = json.dumps(content, sort_keys=True)
    return json.dumps({"content": content, "xxh3_128": digest(text.encode())}, sort_keys=True).encode()


def unseal(raw: bytes) -> dict[str, Any]:
    """The content of an envelope. Raises Broken when a single bit differs, white space included."""
    content = _parsed(raw).get("content")
    if not isinstance(content, dict) or raw != seal(content):
        raise Broken("wrong checksum")
    return dict(content)


def seal_inside(value: dict[str, Any]) -> bytes:
    """A dictionary with its checksum as one more key."""
    text = json.dumps(value, sort_keys=True, separators=_COMPACT)
    return json.dumps({**value, CHECKSUM: digest(text.encode())}, separators=_COMPACT).encode()


def unseal_inside(raw: bytes) -> dict[str, Any]:
    """The dictionary of `seal_inside`. Raises Broken when a single bit differs, white space included."""
    value = _parsed(raw)
    value.pop(CHECKSUM, None)
    if raw != seal_inside(value):
        raise Broken("wrong checksum")
    return value


def read_sealed(path: Path) -> dict[str, Any]:
    """The dictionary of `seal_inside` in a file. Raises DamagedFile when it is missing or was changed."""
    try:
        return unseal_inside(read_bytes(path))
    except Broken as error:
        raise DamagedFile(path, "does not match its checksum") from error


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises DamagedFile where there is none, EnvironmentFault where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def require(path: Path, holds: bool, what: str) -> None:
    """Raise DamagedFile unless the content of a sealed file is as it must be; `what` ends `PATH does not say ...`."""
    if not holds:
        raise DamagedFile(path, f"does not say {what}")


def is_count(value: Any) -> bool:
    """Whether a JSON value is a whole number, 0 or more, that int64 holds (true and false are none)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Broken("not JSON") from error
    if not isinstance(value, dict):
        raise Broken("not a dictionary")
    return value
