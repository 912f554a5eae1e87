"""Why a path that somebody typed is not there: the likeliest reason, and what to type instead."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from gpuday.core.errors import did_you_mean
from gpuday.core.spelling import closest

MOST_ENTRIES = 10_000  # of a folder that are looked through for a name that is near
MOST_COMPARED = 1_000  # of those that are about as long, or begin with what was typed
SLIPS = 3  # letters that a name may be longer or shorter


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
    near = [str(folder / name) for name in closest(path.name, _candidates(folder, path.name))] or closest(text, also)
    return did_you_mean([repr(name) for name in near]) or "check the path"


def _candidates(folder: Path, typed: str) -> list[str]:
    """Names in a folder that may be near: comparing all of ten thousand would take seconds."""
    try:
        with os.scandir(folder) as found:
            names = (entry.name for entry in itertools.islice(found, MOST_ENTRIES))
            near = (n for n in names if abs(len(n) - len(typed)) <= SLIPS or n.startswith(typed))
            return list(itertools.islice(near, MOST_COMPARED))
    except OSError:  # a folder that may not be read has nothing to suggest
        return []
