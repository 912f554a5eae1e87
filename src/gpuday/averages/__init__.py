"""Averages of the weights over a run's updates: a frozen config that builds an averager over named parameters."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor, nn

from gpuday.core.parts import Part

Within = Callable[[], AbstractContextManager[None]]


class Averager(ABC):
    """Follows the weights of a training, and can be saved and restored exactly."""

    @abstractmethod
    def update(self, fraction: float, evaluation: Within) -> None:
        """An update of the weights was made, in a step that began at this fraction of the budget.

        Inside of `evaluation()` the parameters hold what is to be averaged: an optimizer may train other weights than it
        evaluates.
        """

    @abstractmethod
    def swapped(self) -> AbstractContextManager[None]:
        """Inside the block, which is entered inside of `evaluation()`, the parameters hold the average; behind it they
        hold what they held before, to the bit. Nothing is swapped where there is no average yet."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Every tensor of the state under a unique name, inside and outside of `swapped()` the same."""

    @abstractmethod
    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`, for an averager that was just built. Raises KeyError when a tensor is missing."""


@dataclass(frozen=True, kw_only=True)
class Average(Part, ABC):
    """Builds an averager."""

    @property
    @abstractmethod
    def copies(self) -> int:
        """Copies of the weights that it holds, and puts into each checkpoint, at most; a look takes one more meanwhile."""

    @abstractmethod
    def build(self, parameters: Mapping[str, nn.Parameter]) -> Averager:
        """An averager over these parameters, by name. It takes its memory at once, so that a run that has too little does
        not learn it hours later."""
