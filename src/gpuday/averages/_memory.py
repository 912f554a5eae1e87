"""Copies of the weights: room for them, and the exchange with what is trained."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from gpuday.averages import Within

Parameters = Mapping[str, nn.Parameter]


def room(parameters: Parameters, *, device: Literal["", "cpu"] = "") -> list[Tensor]:
    """A copy's worth of fp32, all zeros, beside the parameters or on the device that is named. It is written to, since a
    system gives untouched memory that it does not have."""
    return [
        torch.empty_like(p, dtype=torch.float32, device=device or p.device, requires_grad=False).fill_(0.0)
        for p in parameters.values()
    ]


def saved(parameters: Parameters, values: Iterable[Tensor], key: str) -> dict[str, Tensor]:
    """A copy's tensors, named after the parameters and this key."""
    return {f"{name}/{key}": value for name, value in zip(parameters, values, strict=True)}


def restore(parameters: Parameters, values: Iterable[Tensor], key: str, state: Mapping[str, Tensor]) -> None:
    """The inverse of `saved`, in place. Raises KeyError when a tensor is missing."""
    for name, value in zip(parameters, values, strict=True):
        value.copy_(state[f"{name}/{key}"])


@torch.no_grad()
def mix(average: Sequence[Tensor], parameters: Parameters, share: float, evaluation: Within) -> None:
    """Move an average towards the weights by a share of the way, in place; by all of it, it holds their bits."""
    with evaluation():
        torch._foreach_lerp_(list(average), list(parameters.values()), share)


@contextmanager
def holding(parameters: Parameters, values: Iterable[Tensor]) -> Iterator[None]:
    """Inside the block the parameters hold these values, which are computed one after the other; behind it their own.

    In place, since compiled code knows a parameter by its memory; that takes one copy of all of them meanwhile.
    """
    own = [p.detach().clone() for p in parameters.values()]
    try:
        _write(parameters, values)
        yield
    finally:
        _write(parameters, own)


@torch.no_grad()
def _write(parameters: Parameters, values: Iterable[Tensor]) -> None:
    for parameter, value in zip(parameters.values(), values, strict=True):
        parameter.copy_(value)


class Spacing:
    """One update in each stretch of the budget, the first in it: stretches are `every` long, from `start` on. With 0 for
    `every` it is each update from there on."""

    def __init__(self, *, start: float, every: float) -> None:
        self._start, self._every = start, every
        self.last = -1  # number of the stretch whose update was taken; -1 for none

    def due(self, fraction: float) -> bool:
        """Whether it is the one; ask once for each update."""
        if fraction < self._start:
            return False
        # In whole numbers of stretches; 3 * 0.1 and 0.3 are the same moment.
        now = int((fraction - self._start) / self._every + 1e-9) if self._every else self.last + 1
        due = now > self.last
        self.last = max(self.last, now)
        return due
