"""Objectives: what rows of tokens are turned into, and the loss that is taken on them.

Shapes: R rows, L positions, P predicted positions in all.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from gpuday.core.parts import Part
from gpuday.core.seeds import U64

Int = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What an objective needs to know of the tokenizer."""

    size: int
    mask_id: int
    special_ids: tuple[int, ...]


class Model(Protocol):
    """What an objective asks of a model: an encoder, features at flattened positions, and what decodes them."""

    encoder: nn.Module

    def features(self, hidden: Tensor, positions: Tensor | None = None) -> Tensor: ...

    def decoder(self) -> tuple[Tensor, Tensor | None]: ...


class Learner(nn.Module, ABC):
    """A model and whatever else the objective trains beside it."""

    model: Any

    @abstractmethod
    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """The loss as a scalar: the sum over the micro-batch of weight times loss, weights from `inputs`."""

    @abstractmethod
    def compile(self, **options: Any) -> None:
        """Compile the regions whose shapes are fixed."""


class Objective(Part, ABC):
    """Turns rows into inputs and targets, on the loader's thread, and builds the learner that takes the loss."""

    @abstractmethod
    def predicted(self, length: int, multiplier: float) -> int:
        """Predicted positions in a row of `length` when the scheduled rate is at `multiplier` of its peak."""

    @abstractmethod
    def inputs(
        self, rows: Int, keys: U64, *, seed: int, epoch: int, multiplier: float, vocabulary: Vocabulary
    ) -> dict[str, NDArray[Any]]:
        """Arrays for the learner from rows [R, L]; randomness depends on (seed, epoch, key of the row) alone.

        Always holds `weights` [P] fp32, one for a position that counts: the loader sets those of padded rows to zero
        and divides the others by the number of positions in the whole step.
        """

    @abstractmethod
    def build(self, make_model: Callable[[], nn.Module]) -> Learner:
        """The learner around a freshly made model; `make_model` may be called again for extra modules."""
