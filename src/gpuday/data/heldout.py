"""Which documents are held out: whole groups, chosen by hash, until the held-out text is large enough.

The choice needs one counting pass and a fixed amount of memory per source, and knows nothing of tokenizers, so that
runs with different ones are compared on the same text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import xxhash
from numpy.typing import NDArray

from gpuday.core.errors import DataError
from gpuday.data.document import Document, Drop, DropCounter

MAX_SHARE = 0.05  # of a small corpus; a large one gives far less
MIN_SHARED_CHARACTERS = 40  # shorter lines, such as headings, may well stand in both parts
_BITS = 17
_SALT = 2212_14034  # fixed: the held-out text does not follow the run's seed
_FILL = 0.9  # of the target; from here on no further group is looked for


@dataclass(slots=True)
class GroupCensus:
    """Characters by source and hash bucket of the group. Small corpora have about one group in a bucket."""

    documents: int = 0
    characters: int = 0
    _mass: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, document: Document) -> None:
        """Count a document."""
        if document.source not in self._mass:
            self._mass[document.source] = np.zeros(1 << _BITS, dtype=np.int64)
        self._mass[document.source][_bucket(document.group)] += len(document.text)
        self.documents += 1
        self.characters += len(document.text)

    def choose(self, characters: int, *, max_share: float = MAX_SHARE) -> "HeldoutGroups":
        """Groups of about `characters`, at most `max_share` of the whole; each source gives its part.

        Raises DataError when all text is one group, since nothing would be left to train on.
        """
        share = min(characters / max(self.characters, 1), max_share)
        chosen = {source: _choose(mass, share) for source, mass in self._mass.items()}
        if not any(part.any() for part in chosen.values()):
            sizes = [(int(mass[b]), s, int(b)) for s, mass in self._mass.items() for b in np.flatnonzero(mass)]
            if len(sizes) < 2 and max_share < 1:
                raise DataError(
                    "the corpus is a single document: nothing can be held out to measure progress",
                    fix="give --heldout SRC, or --documents line if every line is a document",
                )
            _, source, bucket = min(sizes)
            chosen[source][bucket] = True
        return HeldoutGroups(chosen)


@dataclass(frozen=True, slots=True)
class HeldoutGroups:
    """The chosen hash buckets of each source."""

    _chosen: dict[str, NDArray[np.bool_]]

    def __contains__(self, document: Document) -> bool:
        part = self._chosen.get(document.source)
        return part is not None and bool(part[_bucket(document.group)])


class SharedLines:
    """Finds lines of the held-out text that training text contains as well."""

    def __init__(self, heldout: Iterable[Document]) -> None:
        self._lines = {line for document in heldout for line in _lines(document.text)}
        self._shared: set[str] = set()

    def see(self, document: Document) -> None:
        """Compare a training document."""
        for line in _lines(document.text):
            if line in self._lines:
                self._shared.add(line)

    def without(self, heldout: Iterable[Document], drops: DropCounter) -> Iterator[Document]:
        """Held-out documents without the shared lines; documents of which nothing remains are left out."""
        for document in heldout:
            lines = document.text.split("\n")
            kept = [line for line in lines if line.strip() not in self._shared]
            for line in lines:
                if line.strip() in self._shared:
                    drops.add("heldout", Drop("paragraph also in training text", line))
            text = "\n".join(kept).strip()
            if text:
                yield Document(text, document.id, document.source, document.group)


def collect(documents: Iterable[Document], limit: int, drops: DropCounter) -> list[Document]:
    """The documents, as long as they have at most `limit` characters together; the one that passes it is cut."""
    kept, room = list[Document](), limit
    for document in documents:
        text = document.text if len(document.text) <= room else document.text[:room].rpartition(" ")[0].strip()
        if len(text) < len(document.text):
            drops.add("heldout", Drop("beyond the size of the held-out text", document.id))
        if text:
            kept.append(Document(text, document.id, document.source, document.group))
        room -= len(text)
    return kept


def _choose(mass: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Buckets in hash order that fit into the share; the smallest one if none does and it is a small part."""
    chosen = np.zeros(len(mass), dtype=bool)
    total = int(mass.sum())
    room = target = share * total
    filled = np.flatnonzero(mass)
    for bucket in filled:
        if mass[bucket] <= room:
            chosen[bucket] = True
            room -= int(mass[bucket])
            if share < 1 and room <= (1 - _FILL) * target:
                break
    if not chosen.any() and len(filled):
        smallest = filled[np.argmin(mass[filled])]
        chosen[smallest] = mass[smallest] <= MAX_SHARE * total
    return chosen


def _bucket(group: str) -> int:
    return xxhash.xxh3_64_intdigest(group.encode(), seed=_SALT) >> (64 - _BITS)


def _lines(text: str) -> list[str]:
    return [line for line in map(str.strip, text.split("\n")) if len(line) >= MIN_SHARED_CHARACTERS]
