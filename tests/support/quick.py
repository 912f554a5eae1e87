"""What a training in the tests' own process leaves out, for a conftest to name; processes of the command line do all of it."""

import copy
import functools
import os
from collections.abc import Callable, Iterator

import pytest
from cyclopts import App, ArgumentCollection

from gpuday.models.kernels import choose_attention
from gpuday.train import session

_once = functools.cache(choose_attention)
_assemble = App.assemble_argument_collection
_assembled: dict[tuple[Callable[..., object], bool], ArgumentCollection] = {}


def _anew(app: App, *, parse_docstring: bool = False) -> ArgumentCollection:
    """The arguments of a command as they are before anything is typed, worked out for the first of its command lines."""
    assert app.default_command is not None
    key = app.default_command, parse_docstring
    if key not in _assembled:
        _assembled[key] = _assemble(app, parse_docstring=parse_docstring)
    copies = {id(argument): copy.copy(argument) for argument in _assembled[key]}
    for argument in copies.values():
        argument.tokens = []
        argument.children = ArgumentCollection(copies[id(child)] for child in argument.children)
    return ArgumentCollection(copies.values())


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


@pytest.fixture(scope="module", autouse=True)
def flags_worked_out_once() -> Iterator[None]:
    """What a command takes is read from its signature once in a process, and not two or three times for each of its command
    lines, most of whose time it takes: nothing that is typed changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(App, "assemble_argument_collection", _anew)
        yield
