"""What a training in the tests' own process leaves out, for a conftest to name; processes of the command line do all of it."""

import functools
import os
from collections.abc import Iterator

import pytest

from gpuday.models.kernels import choose_attention
from gpuday.train import session

_once = functools.cache(choose_attention)


@pytest.fixture(scope="module", autouse=True)
def kernels_tried_once() -> Iterator[None]:
    """Attention's kernels are tried once in a process, and not in each of its trainings, a sixth of whose time it takes:
    the answer follows from what is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "choose_attention", _once)
        yield


@pytest.fixture(scope="module", autouse=True)
def disk_not_awaited() -> Iterator[None]:
    """No power is cut here: a file counts as on the disk at once. A training of six steps waits for it nineteen times, as
    long as it computes. What is no open file is refused as ever."""

    def fsync(descriptor: int) -> None:
        os.fstat(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield
