"""Why a path that somebody typed is not there: the likeliest reason, and what to type instead."""

import os
from collections.abc import Iterable
from pathlib import Path

from gpuday.core.errors import did_you_mean
from gpuday.core.spelling import closest

MOST_ENTRIES = 10_000  # of a folder that are looked through for a name that is near


def why_absent(text: str, *, also: Iterable[str] = ()) -> str:
    """A fix for a path that does not exist; `also` are words that could have stood in its place."""
    if "://" in text:
        return "download it first: paths and hub:NAME are read, URLs are not"
    if text != text.strip() and Path(text.strip()).exists():
        return f"write {text.strip()!r}, without the blanks around it"
    if text.startswith("~"):
        return f"write {os.path.expanduser(text)}: the shell opens ~ only outside of quotes, at the beginning of a word"
    path = Path(text)
    folder = path.parent
    if not folder.is_dir():
        return f"check the path: the folder {folder} is not there either"
    near = [str(folder / name) for name in closest(path.name, _entries(folder))] or closest(text, also)
    return did_you_mean([repr(name) for name in near]) or "check the path"


def _entries(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as found:
            return [entry.name for entry, _ in zip(found, range(MOST_ENTRIES), strict=False)]
    except OSError:  # a folder that may not be read has nothing to suggest
        return []
