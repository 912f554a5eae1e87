"""What tests ask of a run that was trained, and a rate at which each of its updates shows."""

from typing import Any

import pytest

from gpuday.core.journal import surviving
from gpuday.core.rundir import RunDir
from gpuday.train.checkpoint import load_newest
from gpuday.train.saved_folder import Saved

# A rate that a warm-up ends and the last step does not bring to zero, so that each update moves the weights.
STEADY = {"rate": {"part": "constant"}}


def rows(run: RunDir, kind: type) -> list[Any]:
    """The rows of a kind in the journal that was not gone back from."""
    return [row for row in surviving(run.journal) if isinstance(row, kind)]


def newest(run: RunDir) -> Saved:
    """Its newest checkpoint, of which there is one, and no word of damage."""
    saved = load_newest(run.checkpoints, warn=pytest.fail)
    assert saved is not None
    return saved
