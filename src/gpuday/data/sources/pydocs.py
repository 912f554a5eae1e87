"""The English that every Python environment holds: docstrings of the standard library and of installed packages.

Found by parsing source files, never by importing them. A quarter of docstrings are exact copies and half of the rest
repeats paragraphs, so that every paragraph is kept once; no package gives more than a fixed share of the text.
"""

import functools
import os
import platform
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from gpuday.core.errors import DataError
from gpuday.data.document import Document, DropCounter
from gpuday.data.sources import Source, _extraction

MAX_FILE_BYTES = 1_000_000
_SKIPPED_FOLDERS = {"test", "tests", "testing", "__pycache__", "site-packages", "dist-packages", "node_modules"}
_SKIPPED_PACKAGES = {"gpuday", "pydoc_data", "lib2to3", "ensurepip"}
_DIST_INFO = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)\.dist-info")


@dataclass(frozen=True, kw_only=True)
class Module:
    """Prose of one Python module."""

    package: str
    """Top-level package, or `python` for the standard library."""
    group: str
    """Package and second-level module, such as `torch.nn`; for the standard library the top-level module."""
    name: str
    """Path of the file below its root."""
    texts: tuple[str, ...]
    """One text a docstring, its paragraphs separated by newlines."""

    @property
    def characters(self) -> int:
        return sum(map(len, self.texts))


@dataclass(frozen=True, kw_only=True)
class Pydocs(Source):
    """One document a module, grouped by second-level module. Read once and then kept in memory (about 20 MB)
    and in the cache folder."""

    max_share: float = 0.4
    """Largest share of all characters that one package may give; 1 for no cap."""

    def documents(self, drops: DropCounter) -> Iterator[Document]:
        """Documents by file name, the files of a folder before those of its subfolders."""
        for module in _capped(_modules(), self.max_share):
            yield Document("\n".join(module.texts), module.name, "pydocs", module.group)

    def fingerprint(self) -> dict[str, Any]:
        """Python's version and the name and version of every installed distribution."""
        return {
            "kind": "pydocs",
            "rules": 1,
            "max_share": self.max_share,
            "python": platform.python_version(),
            "packages": {name: version for root in _site_folders() for name, version in _distributions(root)},
        }


def docstring_items(*, max_share: float = 0.4) -> Iterator[tuple[str, str, str]]:
    """(package, module group, text) of every docstring: a labelled task that needs no download.

    Split it by module group, so that no module is on both sides.
    """
    for module in _capped(_modules(), max_share):
        for text in module.texts:
            yield module.package, module.group, text


def _capped(modules: tuple[Module, ...], max_share: float) -> list[Module]:
    """Modules without those, in hash order, by which a package exceeds its share of what remains."""
    if not 0 < max_share <= 1:
        raise DataError(f"max_share is {max_share}", fix="give a share above 0 and at most 1")
    sizes = Counter[str]()
    for module in modules:
        sizes[module.package] += module.characters
    allowed = _allowed(sizes, max_share)
    used, kept = Counter[str](), set[str]()
    for module in sorted(modules, key=lambda m: (xxhash.xxh3_64_intdigest(m.name.encode()), m.name)):
        if used[module.package] + module.characters <= allowed[module.package]:
            used[module.package] += module.characters
            kept.add(module.name)
    return [module for module in modules if module.name in kept]


def _allowed(sizes: Counter[str], max_share: float) -> dict[str, float]:
    """Characters per package such that none has more than `max_share` of their sum; few packages cannot all obey."""
    allowed = dict[str, float](sizes)
    if len(sizes) * max_share <= 1:
        return allowed
    ranked = [size for _, size in sizes.most_common()]
    for capped in range(len(ranked)):
        # With the `capped` largest ones at c each: c = share * (capped * c + rest).
        rest, free = sum(ranked[capped:]), 1 - capped * max_share
        if free <= 0:
            break
        ceiling = max_share * rest / free if capped else float("inf")
        if ranked[capped] <= max_share * (capped * min(ceiling, ranked[0]) + rest):
            return {package: min(size, ceiling) for package, size in sizes.items()}
    return allowed


@functools.lru_cache(maxsize=1)
def _modules() -> tuple[Module, ...]:
    seen, modules = set[int](), list[Module]()
    files = list(_python_files())
    for (package, group, name, _), found in zip(files, _extraction.prose([path for *_, path in files]), strict=True):
        texts = [_fresh(paragraphs, seen) for paragraphs in found]
        kept = tuple(text for text in texts if text)
        if kept:
            modules.append(Module(package=package, group=group, name=name, texts=kept))
    return tuple(modules)


def _fresh(paragraphs: list[str], seen: set[int]) -> str:
    """The paragraphs that were not seen before, in lower case and without spacing."""
    fresh = []
    for paragraph in paragraphs:
        key = xxhash.xxh3_64_intdigest("".join(paragraph.lower().split()).encode())
        if key not in seen:
            seen.add(key)
            fresh.append(paragraph)
    return "\n".join(fresh)


def _python_files() -> Iterator[tuple[str, str, str, Path]]:
    """(package, group, name, path) of all source files to read: the standard library, then installed packages."""
    library = Path(sysconfig.get_paths()["stdlib"])
    topics = library / "pydoc_data" / "topics.py"
    if topics.is_file():
        yield "python", "python.pydoc_data", "python/pydoc_data/topics", topics
    for path in _below(library):
        parts = path.relative_to(library).with_suffix("").parts
        if parts[0] not in _SKIPPED_PACKAGES:
            yield "python", f"python.{parts[0]}", "/".join(("python", *parts)), path
    taken = set[str]()
    for root in _site_folders():
        for path in _below(root):
            parts = path.relative_to(root).with_suffix("").parts
            name = "/".join(parts)
            if parts[0] not in _SKIPPED_PACKAGES and name not in taken and not parts[0].startswith(("_", ".")):
                taken.add(name)
                yield parts[0], ".".join(parts[:2]), name, path


def _below(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(s for s in subfolders if s not in _SKIPPED_FOLDERS and not s.endswith(".dist-info"))
        for name in sorted(names):
            path = Path(folder, name)
            if name.endswith(".py") and path.is_file() and path.stat().st_size <= MAX_FILE_BYTES:
                yield path


def _site_folders() -> list[Path]:
    """The interpreter's folders of installed packages, in import order."""
    found = [Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages") and Path(p).is_dir()]
    return list(dict.fromkeys(found))


def _distributions(root: Path) -> list[tuple[str, str]]:
    matches = (_DIST_INFO.fullmatch(entry.name) for entry in os.scandir(root))
    return sorted((m["name"].lower(), m["version"]) for m in matches if m)
