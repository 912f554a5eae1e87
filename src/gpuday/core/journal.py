"""The append-only journal of a run: one JSON object a line, typed, each with its attempt number.

An attempt is one process that trained. A resume may redo steps that an earlier attempt had made and lost:
`surviving` gives the trajectory that led to the final weights.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

KINDS: dict[str, type[Any]] = {}


def _row(cls: type[Any]) -> type[Any]:
    KINDS[cls.__name__.lower()] = cls
    return cls


@_row
@dataclass(frozen=True, kw_only=True)
class Start:
    """An attempt begins."""

    step: int
    used_seconds: float
    device: str
    compiled: bool
    microbatch: int
    ranks: int = 1
    attention: str = ""


@_row
@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimizer step: what it saw and what it did. `loss` is the mean over its masked tokens, in nats.

    `seconds`, `tokens` and `flops` are totals at its end, `step_seconds` is its own time, of which it waited
    `waited_seconds` for its inputs, `first_row` the position of its first row in the stream.
    """

    step: int
    seconds: float
    step_seconds: float
    compiled_anew: bool
    fraction: float
    multiplier: float
    rows: int
    first_row: int
    masked: int
    loss: float
    gradient_norm: float
    tokens: int
    flops: float
    skipped: bool = False
    waited_seconds: float = 0.0


@_row
@dataclass(frozen=True, kw_only=True)
class Validation:
    """Held-out token loss (nats per masked token) after `step` steps, on `rows` held-out rows."""

    step: int
    seconds: float
    tokens: int
    flops: float
    nats_per_token: float
    rows: int
    final: bool = False


@_row
@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint became durable."""

    step: int
    seconds: float
    save_seconds: float
    folder: str


@_row
@dataclass(frozen=True, kw_only=True)
class Note:
    """Anything else a reader must know: a fallback, a skipped update, a signal."""

    step: int
    message: str


class Journal:
    """Appends rows for one attempt; every row is flushed, so that a kill loses none that was written."""

    def __init__(self, path: Path, *, attempt: int) -> None:
        self._path, self.attempt = path, attempt
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = open(path, "ab")  # noqa: SIM115 (closed by close())
        if self._file.tell() and not _ends_whole(path):
            self._file.write(b"\n")  # a kill tore the last line: keep it apart from ours

    def write(self, row: Any) -> None:
        """Append one row. NaN and infinity become null: JSON has neither."""
        kind = type(row).__name__.lower()
        values = {k: _finite(v) for k, v in dataclasses.asdict(row).items()}
        line = json.dumps({"kind": kind, "attempt": self.attempt, **values}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> Iterator[tuple[int, Any]]:
    """(attempt, typed row) of every whole line; a line torn by a kill is passed over."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            try:
                values = json.loads(line)
            except ValueError:
                continue  # torn by a kill in the middle of a write
            kind = KINDS.get(values.pop("kind", ""))
            attempt = values.pop("attempt", 0)
            if kind is not None:
                yield attempt, kind(**{k: float("nan") if v is None else v for k, v in values.items()})


def attempts(path: Path) -> int:
    """How many attempts the journal has seen."""
    return max((attempt for attempt, _ in read(path)), default=0)


def surviving(path: Path) -> list[Any]:
    """The rows of the trajectory that led to the newest weights: what a later attempt took back is left out."""
    rows: list[Any] = []
    for _, row in read(path):
        if isinstance(row, Start):
            # A resume at step s redoes everything after s, including a validation or checkpoint made beyond it.
            rows = [r for r in rows if isinstance(r, Start | Note) or r.step <= row.step]
        rows.append(row)
    return rows


def _ends_whole(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))) else value
