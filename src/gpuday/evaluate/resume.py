"""What an evaluation keeps beside its score files: a sweep's trials, encoders to start from, answers to unlabelled rows.

Each is written whole, with the identity of the fine-tuning that it belongs to, and read only where that is the same. They
lie deeper than the score files, or are no JSON, so that no reader takes one for a score.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gpuday.core.errors import DataError
from gpuday.core.rundir import read_json, write_atomic, write_json
from gpuday.evaluate.metrics import Predicted
from gpuday.evaluate.protocols import Protocol
from gpuday.evaluate.scorefile import hyperparameters
from gpuday.evaluate.tasks.rows import Rows

IDENTITY, VALUES = "identity", "values"


def write_trials(path: Path, identity: dict[str, Any], values: Mapping[Protocol, float | None]) -> None:
    """The main metric of every setting that was tried; None of one that diverged."""
    rows = [{"setting": hyperparameters(setting), "value": value} for setting, value in values.items()]
    write_json(path, {IDENTITY: identity, VALUES: rows})


def read_trials(path: Path, identity: dict[str, Any], settings: Iterable[Protocol]) -> dict[Protocol, float | None]:
    """Those of the settings that were tried."""
    rows = _read(path, identity) or []
    return {s: row["value"] for s in settings for row in rows if row["setting"] == hyperparameters(s)}


def write_answers(path: Path, identity: dict[str, Any], answers: Mapping[str, Predicted]) -> None:
    """Answers to unlabelled rows by name of the set."""
    write_json(path, {IDENTITY: identity, VALUES: {name: np.asarray(v).tolist() for name, v in answers.items()}})


def read_answers(path: Path, identity: dict[str, Any], rows: Mapping[str, int]) -> dict[str, Predicted] | None:
    """The answers, where they are there for all sets with so many rows."""
    found = _read(path, identity)
    if not isinstance(found, dict) or {name: len(values) for name, values in found.items()} != rows:
        return None
    return {name: tuple(v) if isinstance(v[0], str) else np.asarray(v) for name, v in found.items()}


def hash_rows(rows: Mapping[str, Rows]) -> str:
    """xxh3-128 of what is asked in rows, by name of their set: all but the labels."""
    digest = xxhash.xxh3_128()
    for name in sorted(rows):
        asked = rows[name]
        for part in (asked.text_a, asked.text_b, asked.options, asked.words):
            digest.update(json.dumps([name, part]).encode())
    return digest.hexdigest()


def write_start(path: Path, identity: dict[str, Any], state: Mapping[str, Tensor]) -> None:
    """The state of an encoder, as safetensors."""
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    write_atomic(path, save(tensors, metadata={IDENTITY: json.dumps(identity, sort_keys=True)}))


def read_start(path: Path, identity: dict[str, Any]) -> dict[str, Tensor] | None:
    """The state, where it is of this very fine-tuning."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get(IDENTITY) != json.dumps(identity, sort_keys=True):
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError):
        return None  # damaged: it is made anew


def _read(path: Path, identity: dict[str, Any]) -> Any:
    """The values in a file of this identity; None for another's, a damaged one, or none."""
    if not path.is_file():
        return None
    try:
        found = read_json(path)
    except DataError:
        return None
    return found.get(VALUES) if isinstance(found, dict) and found.get(IDENTITY) == identity else None
