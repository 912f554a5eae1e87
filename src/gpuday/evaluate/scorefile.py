"""One score, one file: what was asked of which weights and rows, what came out, and what it was computed on.

A file answers the question that it was asked and no other: `read_score` gives it only where everything that a score
depends on is the same, so that an evaluation that was stopped goes on where it was.
"""

import json
import math
import types
import typing
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from gpuday.core.environment import environment
from gpuday.core.errors import DataError
from gpuday.core.rundir import read_json, write_json
from gpuday.evaluate.intervals import Interval
from gpuday.evaluate.protocols import P1, Protocol

IDENTITY = (
    *("task", "version", "protocol", "hyperparameters", "seed", "fraction", "train_rows"),
    *("data_hash", "model_hash", "start", "pooling"),
)
# Which seeds are asked for, and which rows, changes no score: the rows are counted and hashed beside. The pooling stands
# beside as it was used, whether it was asked for or the subject's own.
NO_HYPERPARAMETERS = ("name", "rows", "seeds", "pooling")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One file `scores/<suite>-<protocol>/<task>/<seed>.json`. All values of metrics are shares of 1."""

    task: str
    version: int
    """Of the task: raised when a change to it changes scores."""
    suite: str
    kind: str
    """Of the task: classification, regression, choice, tagging or span."""
    protocol: str
    """Name, which says so where train rows were capped."""
    hyperparameters: dict[str, Any]
    """The whole protocol; where it sweeps, the grid."""
    chosen: dict[str, Any]
    """Of a sweep: the setting that was best on dev, from which this score comes; empty where nothing was swept."""
    seed: int
    fraction: float
    """Share of the train rows that were used, after any cap; below 1 a point of a learning curve."""
    metric: str
    """The main metric, whose value is `value`."""
    value: float
    metrics: dict[str, float]
    interval: dict[str, Any] | None
    """Of `value` over the rows of dev: low, high, confidence, method, n."""
    baseline: dict[str, float]
    """The main metric without an encoder, by method."""
    train_rows: int
    train_rows_available: int
    dev_rows: int
    longest_row: int
    """Tokens of a row at most: the protocol's, or as many as the subject takes."""
    unread_words: int
    """Words of a tagging's dev rows that lie beyond it."""
    partial: bool
    """Whether the files hold a part of the official rows."""
    train_loss: float
    """Mean over the last epoch: nats, or squared error for regression."""
    steps: int
    seconds: float
    """Of training and scoring; a sweep's own are booked with the first seed that is made. Tokenizing, once for all seeds,
    is not counted."""
    examples_per_second: float
    """Train rows a second while training."""
    dtype: str
    device: str
    data_hash: str
    """xxh3-128 of the files of train and dev; of a further dev set, with that of its own file behind a plus."""
    model_hash: str
    """That of the subject before fine-tuning: of its weights; of a folder also of its config and tokenizer."""
    start: str | None
    """Where fine-tuning began, if not at these weights: the task with its version, protocol, rows, and the hash of its
    data."""
    pooling: str | None
    """What the head read: first, position 0; mean, that of all tokens; None in a tagging and in span tasks."""
    subject: str
    """Name of the run or folder."""
    subject_kind: str
    """run or huggingface."""
    recipe_fingerprint: str | None
    environment: dict[str, Any]
    """Versions, platform and source revision."""
    package_version: str


def suite_folder(suite: str, protocol: str, fraction: float = 1.0) -> str:
    """Name of a suite's folder below `scores/`: P1 is not named, a fraction below 1 is."""
    named = suite if protocol == P1.name else f"{suite}-{protocol}"
    return named if fraction == 1.0 else f"{named}-fraction-{fraction!r}"


def hyperparameters(protocol: Protocol) -> dict[str, Any]:
    """All of a protocol that a score depends on, as JSON holds it."""
    values = {key: value for key, value in asdict(protocol).items() if key not in NO_HYPERPARAMETERS}
    return typing.cast(dict[str, Any], json.loads(json.dumps(values)))


@cache
def surroundings(device: str) -> dict[str, Any]:
    """Versions, platform and source revision; the command line stands in the run's own record."""
    return {key: value for key, value in environment(device).items() if key != "command"}


def plain_interval(interval: Interval | None) -> dict[str, Any] | None:
    """An interval as JSON holds it."""
    return None if interval is None else asdict(interval)


def read_score(path: Path, identity: dict[str, Any]) -> Score | None:
    """The score in a file; None where there is none, it is damaged or of another version of this package, or it answers
    another question: it is then made anew."""
    if not path.is_file():
        return None
    try:
        values = read_json(path)
    except DataError:
        return None
    if not isinstance(values, dict) or any(key not in values or values[key] != identity[key] for key in IDENTITY):
        return None
    return Score(**values) if _is_typed(values) else None


def is_older(path: Path) -> bool:
    """Whether a file is a score as another version of this package wrote it: whole, with other fields."""
    if not path.is_file():
        return False
    try:
        values = read_json(path)
    except DataError:
        return False
    return isinstance(values, dict) and "task" in values and values.keys() != {f.name for f in fields(Score)}


def write_score(path: Path, score: Score) -> None:
    """In one step; a kill leaves the old file or the new one."""
    write_json(path, asdict(score))


def _is_typed(values: dict[str, Any]) -> bool:
    """Whether the fields are those of a `Score`, each of its type."""
    hints = typing.get_type_hints(Score)
    return values.keys() == {f.name for f in fields(Score)} and all(_fits(values[k], hints[k]) for k in hints)


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if typing.get_origin(hint) is dict:
        inner = typing.get_args(hint)[1]
        return isinstance(value, dict) and (inner is Any or all(_fits(v, inner) for v in value.values()))
    return type(value) is hint
