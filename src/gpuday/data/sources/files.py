"""Text files: txt, jsonl, csv, tsv and parquet, each plain or as .gz, .zst or .xz (parquet plain only)."""

import glob
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import xxhash

from gpuday.core.absent import why_absent
from gpuday.core.errors import DataError
from gpuday.core.printable import plain
from gpuday.data.document import Document, Drop, DropCounter
from gpuday.data.records import LineTally, Separator, Texts, read_csv, read_jsonl, read_parquet, read_text
from gpuday.data.sources import Source
from gpuday.data.streams import COMPRESSIONS, check_regular, open_decoded

_FORMATS = {".txt": "txt", ".text": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
_MAX_LABELS = 32  # a folder of more files than this is one source in reports
_WHOLE_BYTES = 1 << 20  # files up to this size are hashed whole ...
_WHOLE_TOTAL = 64 << 20  # ... while their sum stays below this, so that a fingerprint takes no noticeable time
_EDGE_BYTES = 64 << 10


@dataclass(frozen=True, kw_only=True)
class Files(Source):
    """A file, all known files below a folder, or what a glob matches; in sorted order."""

    path: str = ""
    """File, folder or glob (`**` crosses folders)."""
    separator: Separator = "blank"
    """What separates documents in txt files: nothing, the line end, or a blank line."""

    def documents(self, drops: DropCounter) -> Iterator[Document]:
        """Documents in file order. Raises DataError naming the file for one that cannot be used."""
        found, skipped, closed = _find(self.path)
        for name in skipped:
            drops.add("read", Drop("file of unknown kind", name))
        for name in closed:
            drops.add("read", Drop("folder that may not be read", name))
        several = len(found) <= _MAX_LABELS
        whole = _label(Path(self.path).name.split(".")[0].strip("*?[]")) or "files"
        for path, name in found:
            label = _label(path.name.split(".")[0] or path.name) if several else whole
            tally = LineTally(path, drops)
            last, piece = -1, 0
            for number, text in self._texts(path, tally):
                if not text.strip():
                    drops.add("read", Drop("empty document", f"{name}:{number}"))
                    continue
                piece = piece + 1 if number == last else 0
                last, group = number, f"{label}/{name}:{number}"
                yield Document(text, f"{group}.{piece}" if piece else group, label, group)
            tally.check()

    def fingerprint(self) -> dict[str, Any]:
        """Name and size of every file, with the hash of its content if it is small (up to 1 MiB, 64 MiB in all);
        otherwise its modification time and the hash of its first and last 64 KiB. With `closed`, the folders that may not
        be read, where there are any."""
        found, skipped, closed = _find(self.path)
        total, files = 0, []
        for path, name in found:
            status = check_regular(path)
            total += status.st_size
            whole = status.st_size <= _WHOLE_BYTES and total <= _WHOLE_TOTAL
            entry = {"file": name, "bytes": status.st_size, "xxh3": _hash(path, status.st_size, whole)}
            files.append(entry if whole else entry | {"mtime_ns": status.st_mtime_ns})
        made: dict[str, Any] = {"kind": "files", "separator": self.separator, "files": files, "skipped": skipped}
        return made | ({"closed": closed} if closed else {})

    def _texts(self, path: Path, tally: LineTally) -> Texts:
        kind = _format(path)
        if kind == "parquet":
            yield from read_parquet(path, tally)
            return
        with open_decoded(path) as stream:
            if kind == "jsonl":
                yield from read_jsonl(stream, tally)
            elif kind in ("csv", "tsv"):
                yield from read_csv(stream, tally, "," if kind == "csv" else "\t")
            else:
                yield from read_text(stream, tally, self.separator)


def _format(path: Path) -> str | None:
    if path.suffix == ".parquet":
        return "parquet"
    inner = Path(path.stem) if path.suffix in COMPRESSIONS else path
    return _FORMATS.get(inner.suffix)


def _find(text: str) -> tuple[list[tuple[Path, str]], list[str], list[str]]:
    """([(path, name below the root)] of known kind, names of the others, of folders that may not be read), all sorted."""
    if not text or "\0" in text:
        raise DataError("no corpus path is given", fix="name a file, a folder or a glob")
    root = Path(text)
    if os.path.lexists(root) and not os.path.isdir(root):
        check_regular(root)
        if _format(root) is None:
            known = ", ".join([*sorted(_FORMATS), ".parquet"])
            raise DataError(f"{root} is of no known kind", fix=f"known: {known}, also with {', '.join(COMPRESSIONS)}")
        return [(root, _readable(root.name))], [], []
    closed: list[Path] = []
    if os.path.isdir(root):
        paths = [(p, _readable(p.relative_to(root).as_posix())) for p in _walk(root, closed)]
    elif any(c in text for c in "*?["):
        fixed = Path(*itertools.takewhile(lambda part: not any(c in part for c in "*?["), root.parts))
        hits = [Path(p) for p in sorted(glob.glob(text, recursive=True)) if not os.path.isdir(p)]
        paths = [(p, _readable(p.relative_to(fixed).as_posix())) for p in hits]
    else:
        raise DataError(f"{text} does not exist", where="--corpus, --heldout", fix=why_absent(text, also=["pydocs"]))
    known_files = [(p, n) for p, n in paths if _format(p) is not None]
    for path, _ in known_files:
        check_regular(path)
    if not paths and not root.is_dir():
        raise DataError(f"nothing matches {text}", fix="check the pattern: * stands for names, ** for folders too")
    if not known_files:
        where = f"{len(closed):,} of its folders may not be read" if closed else ""
        raise DataError(
            f"{text} holds no text files",
            where=where,
            fix=f"name files that end in {', '.join(sorted(_FORMATS))} (these also .gz, .zst, .xz) or .parquet",
        )
    others = [n for p, n in paths if _format(p) is None]
    return known_files, others, sorted(_readable(p.relative_to(root).as_posix()) for p in closed)


def _walk(root: Path, closed: list[Path]) -> list[Path]:
    """All files below a folder, sorted by path; links to folders are followed once. Folders inside of it that may not be
    read go to `closed`, such as the `lost+found` of a disk."""
    seen: set[tuple[int, int]] = set()
    found: list[Path] = []

    def pass_over(error: OSError) -> None:
        if not isinstance(error, PermissionError) or (folder := Path(error.filename)) == root:
            _refuse(error)
        closed.append(folder)

    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=pass_over):
        try:
            status = os.stat(folder)
        except OSError as error:
            _refuse(error)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders.sort()
        found.extend(Path(folder, name) for name in names)
    return sorted(found, key=lambda p: p.as_posix())


def _refuse(error: OSError) -> NoReturn:
    """What cannot be read is not passed over without a word: its text would be missing."""
    raise DataError(f"cannot read {error.filename}: {error.strerror}", fix="check its permissions") from error


def _readable(name: str) -> str:
    """A file's name as text that encodes to UTF-8: bytes that do not decode are written as backslash escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _label(name: str) -> str:
    """The name as reports and screens may show it."""
    return plain(_readable(name), instead="?")


def _hash(path: Path, size: int, whole: bool) -> str:
    try:
        with open(path, "rb") as file:
            if whole:
                return xxhash.xxh3_128_hexdigest(file.read(size + 1))
            head = file.read(_EDGE_BYTES)
            file.seek(max(0, size - _EDGE_BYTES))
            return xxhash.xxh3_128_hexdigest(head + file.read(_EDGE_BYTES))
    except OSError as error:
        _refuse(error)
