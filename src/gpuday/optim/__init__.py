"""Optimizers: a frozen config that builds a stepper over named parameters."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gpuday.core.parts import Part

Role = Literal["matrix", "embedding", "vector"]


@dataclass(frozen=True, kw_only=True)
class Named:
    """A parameter and what an optimizer may ask of it."""

    name: str
    tensor: torch.nn.Parameter
    role: Role
    """`matrix`: a 2-D weight inside the blocks or head; `embedding`: a table of vocabulary or positions; else `vector`."""
    fused: int = 1
    """How many matrices are stacked along the first axis."""


class Stepper(ABC):
    """Moves the parameters by their gradients, and can be saved and restored exactly."""

    @abstractmethod
    def step(self, multiplier: float, closure: Callable[[], None]) -> None:
        """One update at `multiplier` times the peak rates. `closure` computes this step's gradients anew at the present
        weights, for optimizers that look at more than one point; the others take the gradients as they stand."""

    @abstractmethod
    def evaluation(self) -> AbstractContextManager[None]:
        """Inside the block the parameters hold the weights to evaluate and save; most optimizers change nothing."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Every tensor of the state under a unique name; scalars as 0-dimensional tensors."""

    @abstractmethod
    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`. Raises KeyError when a tensor is missing."""


class Optimizer(Part, ABC):
    """Builds a stepper."""

    @abstractmethod
    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32) -> Stepper:
        """A stepper over these parameters. `dtype` is the fastest one here for products that bear rounding."""
