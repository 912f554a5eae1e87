"""Prose of thousands of source files: parsed by as many processes as there are cores, once for each state of the files.

The result is kept in the cache folder: 20 MB of JSON under a digest of itself, of the files' names, sizes and times,
and of the rules. It is safe to delete; a damaged or outdated one is made again and replaced.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xxhash

from gpuday.core.cache import cache_folder
from gpuday.core.errors import EnvironmentFault
from gpuday.core.rundir import clear_unfinished, write_atomic
from gpuday.data import docstrings

MAX_PROCESSES = 8
Prose = list[list[list[str]]]  # of files, of their docstrings, of paragraphs


def prose(paths: Sequence[Path]) -> Prose:
    """Paragraphs of the docstrings of every file; of a docstring that several files hold one copy at least."""
    place = cache_folder() / "pydocs" / f"{xxhash.xxh3_64_hexdigest(os.fsencode(sys.prefix))}.json"
    state = _state(paths)
    if (known := _read(place, state)) is not None:
        return known
    found = _extract(paths)
    body = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
    write_atomic(place, _head(state, body) + body, durable=False)
    clear_unfinished(place.parent, shared=True)
    return found


def _state(paths: Sequence[Path]) -> str:
    """Digest of what the prose follows from: the rules, the parser, and the files as far as their folder shows them."""
    digest = xxhash.xxh3_128(f"{sys.version}\n".encode() + Path(docstrings.__file__).read_bytes())
    for path in paths:
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _head(state: str, body: bytes) -> bytes:
    return f"{state} {xxhash.xxh3_128_hexdigest(body)}\n".encode()


def _read(place: Path, state: str) -> Prose | None:
    """What is kept for this state of the files, if it is whole."""
    if not place.is_file():
        return None
    head, _, body = place.read_bytes().partition(b"\n")
    if head + b"\n" != _head(state, body):
        return None
    kept: Prose = json.loads(body)
    return kept


def _extract(paths: Sequence[Path]) -> Prose:
    """Every process takes every n-th file, so that each sees its copies of a docstring in the order of the files."""
    count = max(1, min(os.cpu_count() or 1, MAX_PROCESSES, len(paths)))
    found: Prose = [[] for _ in paths]
    with ThreadPoolExecutor(count) as threads:
        for first, answers in enumerate(threads.map(_ask, [paths[i::count] for i in range(count)])):
            found[first::count] = answers
    return found


def _ask(paths: Sequence[Path]) -> Prose:
    """The answers of one process of its own, which holds no lock of this one."""
    # -P: the folder of the script must not stand in front of the standard library.
    command = [sys.executable, "-P", docstrings.__file__]
    question = "".join(json.dumps(os.fspath(path)) + "\n" for path in paths)
    done = subprocess.run(command, input=question, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise EnvironmentFault(
            f"reading docstrings ended with status {done.returncode}",
            where=done.stderr.strip().rpartition("\n")[2],
            fix="check that the installed packages can be read, or give --corpus",
        )
    return [json.loads(line) for line in done.stdout.splitlines()]
