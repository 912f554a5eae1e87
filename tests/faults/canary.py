"""Files that would make a canary sing: pickles that make a file when they are read, and the hook that sees who reads them.

Loaded by path from the tests beside it, for which `canary` and `tokenizer` are fixtures.
"""

import io
import pickle
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuday import presets
from gpuday.core import config
from gpuday.core.clock import Budget
from gpuday.data.tokenizer import TextTokenizer, train_tokenizer

# Of a harmless recipe, to be spoiled.
PLAIN: dict[str, Any] = config.to_dict(presets.find("modern")("nano", Budget.parse("3steps")))


class Canary:
    """Unpickling it makes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


WATCHED = {
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "marshal.loads",
}
_watching = threading.local()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in WATCHED and (seen := getattr(_watching, "seen", None)) is not None and not _imports():
        seen.append((event, str(arguments)[:200]))


def _imports() -> bool:
    """Whether Python itself is loading a module of an installed library just now, which unmarshals its code."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


sys.addaudithook(_audit)  # for good, since there is no taking it back; it does nothing outside of these tests


def watch() -> list[tuple[str, str]]:
    """Begin to note what this thread executes, unpickles and starts; returns the list that fills."""
    _watching.seen = []
    return _watching.seen


def unwatch() -> list[tuple[str, str]]:
    """End it, and give what was noted."""
    seen, _watching.seen = _watching.seen, None
    return seen


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that is not there afterwards, whatever was read; nothing was unpickled, started or unmarshalled."""
    path = tmp_path / "canary"
    watch()
    yield path
    seen = unwatch()
    assert not path.exists()
    assert seen == []


def evil_pickle(canary: Path) -> bytes:
    return pickle.dumps(Canary(canary))


def evil_zip(canary: Path) -> bytes:
    """What `torch.save` writes: a zip with a pickle."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", evil_pickle(canary))
        archive.writestr("archive/version", "3")
    return packed.getvalue()


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    lines = [
        "the quick brown fox jumps over the lazy dog and runs away",
        "it is raining again outside of the old house",
    ]
    return train_tokenizer(iter(lines * 30), kind="bpe", normalizer="light", vocab=320)[0]
