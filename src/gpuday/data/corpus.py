"""From the command line's SRC to a source, and what must hold of the sources of one preparation."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpuday.core.errors import DataError, UsageError
from gpuday.data.records import Separator
from gpuday.data.sources import Source
from gpuday.data.sources.files import Files
from gpuday.data.sources.hub import Hub
from gpuday.data.sources.pydocs import Pydocs
from gpuday.data.sources.synthetic import Synthetic

_SHOWN = 5  # folders in a notice


def parse_source(text: str, *, documents: Separator = "blank") -> Source:
    """The source that SRC names: a file, folder or glob; `hub:NAME[:config[:split]]`; `pydocs`; `synthetic[:WORDS]`.

    `documents` says what separates documents in txt files. Raises UsageError for a malformed SRC; whether a file
    exists is found when it is read. A folder that is called `pydocs` is given as `./pydocs`.
    """
    kind, _, rest = text.partition(":")
    if text == "pydocs":
        return Pydocs()
    if kind == "synthetic":
        if not rest:
            return Synthetic()
        if not rest.isdecimal() or int(rest) == 0:
            raise UsageError(f"{text!r} names no corpus", fix="write synthetic:WORDS, for example synthetic:20000")
        return Synthetic(words=int(rest))
    if kind == "hub":
        name, *more = rest.split(":")
        if not name or len(more) > 2:
            raise UsageError(f"{text!r} names no corpus", fix="write hub:NAME[:CONFIG[:SPLIT]]")
        config, split = [*more, "", ""][:2]
        return Hub(name=name, config=config, split=split or "train")
    if not text:
        raise UsageError("the corpus has no name", fix="name a file, a folder, a glob, hub:NAME, or pydocs")
    return Files(path=text, separator=documents)


def refuse_leak(corpus: Sequence[dict[str, Any]], heldout: Sequence[dict[str, Any]]) -> None:
    """Raise DataError when text of one fingerprint is given to be trained on and to be held out."""
    if any(source in corpus for source in heldout):
        raise DataError(
            "the held-out text is the corpus itself",
            where="--heldout",
            fix="give other text, or none: a part of the corpus is held out by itself",
        )


def refuse_changed(sources: Sequence[Source], before: Sequence[dict[str, Any]]) -> None:
    """Raise DataError when files that are read are not those that were fingerprinted before. What lies beside them may
    come and go: an editor's swap file, a log."""
    for source, fingerprint in zip(sources, before, strict=True):
        if isinstance(source, Files) and source.fingerprint()["files"] != fingerprint["files"]:
            raise changed(source.path)


def refuse_cache_within(sources: Sequence[Source], cache: Path) -> None:
    """Raise UsageError for a folder of text in which the cache lies: each preparation would make it another corpus."""
    for source in sources:
        if isinstance(source, Files) and os.path.isdir(source.path) and _lies_in(cache, Path(source.path)):
            raise UsageError(
                f"the cache {cache} lies in the corpus {source.path}",
                where="--corpus, --heldout",
                fix="name the files or the folder of the text alone, or move the cache with the variable GPUDAY_CACHE",
            )


def _lies_in(folder: Path, root: Path) -> bool:
    return folder.resolve().is_relative_to(root.resolve())


def tell_closed(names: Sequence[str], fingerprints: Sequence[dict[str, Any]], report: Callable[..., None]) -> None:
    """Tell of each source which folders of it may not be read, so that nobody takes their text for trained on."""
    for name, fingerprint in zip(names, fingerprints, strict=True):
        if closed := fingerprint.get("closed"):
            shown = ", ".join(closed[:_SHOWN]) + (f" and {len(closed) - _SHOWN:,} more" if len(closed) > _SHOWN else "")
            report("notice", message=f"{name}: folders that may not be read are left out: {shown}")


def changed(name: str) -> DataError:
    """The text is read several times; of two versions parts would be mixed."""
    return DataError(
        f"{name} changed while it was read", fix="wait until nothing writes there, and give the same command again"
    )
