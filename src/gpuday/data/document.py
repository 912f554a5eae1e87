"""A document on its way through the data room, and the written account of everything that was dropped."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuday.core.rundir import write_json

SAMPLES = 20  # kept for each (stage, reason)
SAMPLE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Document:
    """One text with its origin. `text` is not empty and encodes to UTF-8."""

    text: str
    id: str
    """Unique inside a corpus, and the same in every pass over it."""
    source: str
    """Label under which held-out losses are reported."""
    group: str
    """Documents of one group are either all trained on or all held out."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a line, a document or a row was left out, and what it looked like."""

    reason: str
    sample: str = ""


@dataclass(slots=True)
class DropCounter:
    """Counts of drops by (stage, reason), with the first 20 samples of each."""

    _counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _samples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, stage: str, drop: Drop, *, times: int = 1) -> None:
        """Book a drop of `times` equal things."""
        key = stage, drop.reason
        self._counts[key] = self._counts.get(key, 0) + times
        samples = self._samples.setdefault(key, [])
        if drop.sample and len(samples) < SAMPLES:
            samples.append(drop.sample[:SAMPLE_CHARACTERS])

    def count(self, stage: str | None = None, reason: str | None = None) -> int:
        """How many were dropped in a stage for a reason; None stands for all."""
        return sum(n for (s, r), n in self._counts.items() if stage in (None, s) and reason in (None, r))

    def __iter__(self) -> Iterator[tuple[str, str, int]]:
        """(stage, reason, count), sorted."""
        yield from sorted((s, r, n) for (s, r), n in self._counts.items())

    def to_dict(self) -> dict[str, dict[str, dict[str, Any]]]:
        """{stage: {reason: {"count": int, "samples": [str]}}}"""
        plain: dict[str, dict[str, dict[str, Any]]] = {}
        for stage, reason, count in self:
            samples = [s.encode("utf-8", "replace").decode() for s in self._samples[stage, reason]]
            plain.setdefault(stage, {})[reason] = {"count": count, "samples": samples}
        return plain

    def write(self, path: Path) -> None:
        """Write `to_dict` as JSON."""
        write_json(path, self.to_dict())
