"""The append-only journal of a run: one JSON object a line, typed, each with its attempt number.

An attempt is one process that trained. A resume may redo steps that an earlier attempt had made and lost, and a rollback
takes steps back: `surviving` gives the trajectory that led to the final weights.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gpuday.core.errors import EnvironmentFault, Interrupted
from gpuday.core.rundir import fsync_folder, no_link

KINDS: dict[str, type[Any]] = {}
NEWLINE = b"\n"


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
    """One optimizer step: what it saw and what it did. `loss` is the mean over the `masked` tokens that it predicted, in nats.

    `seconds`, `tokens` and `flops` are totals at its end, `step_seconds` is its own time, of which it waited
    `waited_seconds` for its inputs, `first_row` the position of its first row in the stream, `microbatch` the rows that
    a device got at a time. `reason` says why an update was `skipped`. `question` is the objective's kind of step, `length`
    the tokens that rows were cut into, 0 in a row of an earlier version; `decay` and `dropout` are the shares of the
    recipe's.
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
    microbatch: int = 0
    reason: str = ""
    question: str = ""
    length: int = 0
    decay: float = 1.0
    dropout: float = 1.0


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
class Rollback:
    """The run went back from `from_step` to its checkpoint after `step` steps, and on with the row at `position`."""

    step: int
    from_step: int
    position: int
    reason: str


@_row
@dataclass(frozen=True, kw_only=True)
class Noise:
    """The gradient's noise as the two halves of a step show it: |G|^2 (`signal`) and tr(S) (`trace`) of a row's gradient,
    and the noise scale in rows over the latest measurements; null where no signal is seen."""

    step: int
    signal: float
    trace: float
    scale: float


@_row
@dataclass(frozen=True, kw_only=True)
class Note:
    """Anything else a reader must know: a fallback, a skipped update, a signal."""

    step: int
    message: str


class Journal:
    """Appends rows for one attempt; every row goes to the system at once, so that a kill loses none that was written.

    Rows that the disk does not take stay in memory, in their order and to the byte, until it takes them: a full disk
    neither ends training nor tears a line. `warn` hears when that begins and when it ends.
    """

    def __init__(self, path: Path, *, attempt: int, warn: Callable[[str], None] = lambda _: None) -> None:
        self._path, self.attempt, self._warn = path, attempt, warn
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0, opener=no_link)  # noqa: SIM115 (closed by close())
        self._waiting = bytearray()
        self._fault: OSError | None = None
        self._listed = False  # whether its folder durably names it
        if self._file.tell() and not _ends_whole(path):
            self._append(b"\n")  # a kill tore the last line: keep it apart from ours

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close()
        except EnvironmentFault:
            if kind is None or issubclass(kind, Interrupted):
                raise  # else there is a fault already, and it matters more

    def write(self, row: Any) -> None:
        """Append one row. NaN and infinity become null: JSON has neither."""
        kind = type(row).__name__.lower()
        values = {k: _finite(v) for k, v in dataclasses.asdict(row).items()}
        line = json.dumps({"kind": kind, "attempt": self.attempt, **values}, allow_nan=False)
        self._append(line.encode() + b"\n")

    def sync(self) -> None:
        """Make durable what was written: after a power cut no checkpoint may stand beside a journal that ends before it.

        Rows that wait in memory go on waiting. A disk that cannot sync fails the save that follows, which tells it.
        """
        self._append(b"")
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())
            if not self._listed:
                fsync_folder(self._path.parent)
            self._listed = True

    def close(self) -> None:
        """Write what waits and close the file. Raises EnvironmentFault when rows had to be given up."""
        self._append(b"")
        self._file.close()
        if self._waiting:
            raise EnvironmentFault(
                f"the last {self._waiting.count(NEWLINE):,} rows of the journal cannot be written: "
                f"{self._fault.strerror if self._fault else ''}",
                where=str(self._path),
                fix="make room, then give the same command again: checkpoints are intact, those rows are lost",
            )

    def _append(self, data: bytes) -> None:
        self._waiting += data
        try:
            while self._waiting:
                del self._waiting[: self._file.write(self._waiting)]
        except OSError as error:
            if self._fault is None:
                self._warn(f"the journal cannot be written ({error.strerror}); its rows wait in memory")
            self._fault = error
            return
        if self._fault is not None:
            self._fault = None
            self._warn("the journal can be written again; no row was lost")


def read(path: Path) -> Iterator[tuple[int, Any]]:
    """(attempt, typed row) of every whole line; one that a kill tore, or that is damaged, is passed over."""
    return (row for row in _lines(path) if row is not None)


def unreadable(path: Path) -> int:
    """How many lines `read` passes over."""
    return sum(row is None for row in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, Any] | None]:
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                yield None  # torn by a kill in the middle of a write, or damaged since
            else:
                yield _typed(values) if isinstance(values, dict) else None


def _typed(values: dict[str, Any]) -> tuple[int, Any] | None:
    """(attempt, row), or None for what this module did not write: a row of another kind, or with other fields."""
    name, attempt = values.pop("kind", None), values.pop("attempt", 0)
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or type(attempt) is not int:
        return None
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    row = {k: float("nan") if v is None else v for k, v in values.items()}
    if any(k not in types or not _is(types[k], v) for k, v in row.items()):
        return None
    try:
        return attempt, kind(**row)
    except TypeError:  # a field is missing
        return None


def _is(wanted: Any, value: Any) -> bool:
    return type(value) is wanted or (wanted is float and type(value) is int)


def attempts(path: Path) -> int:
    """How many attempts the journal has seen."""
    return max((attempt for attempt, _ in read(path)), default=0)


def surviving(path: Path) -> list[Any]:
    """The rows of the trajectory that led to the newest weights: what a later attempt or a rollback took back is left out."""
    rows: list[Any] = []
    for _, row in read(path):
        if isinstance(row, Start | Rollback):
            # Everything after that step is made anew, including a validation or checkpoint made beyond it; and a final
            # look that was not saved.
            rows = [r for r in rows if isinstance(r, Start | Note) or (r.step <= row.step and not _is_final(r))]
        rows.append(row)
    return rows


def _is_final(row: Any) -> bool:
    return isinstance(row, Validation) and row.final


def _ends_whole(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))) else value
