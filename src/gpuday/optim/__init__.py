"""Optimizers: a frozen config that builds a stepper over named parameters."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from gpuday.core.parts import Part

Role = Literal["matrix", "embedding", "vector"]
# Of what is added to the root of a second moment. A gradient below it has a square that fp32 does not hold, so that with
# less the quotient of its moments would be of any size, and 0 / 0 where there is no gradient.
LEAST_EPS = 1e-18


@dataclass(frozen=True, kw_only=True)
class Named:
    """A parameter and what an optimizer may ask of it."""

    name: str
    tensor: torch.nn.Parameter
    role: Role
    """`matrix`: a 2-D weight inside the blocks or head; `embedding`: a table of vocabulary or positions; else `vector`."""
    fused: int = 1
    """How many matrices are stacked along the first axis."""


class Refused(Exception):
    """Gradients that an optimizer asked for are not finite: the update is not made. The message is the reason."""


class Gradients(Protocol):
    """Computes this step's gradients anew, on the same rows with the same masks and dropout, at the present weights."""

    def __call__(self, *, clip: bool = True) -> None:
        """Without `clip` they are left as long as they are. Raises Refused where they are not finite, and what the loop
        makes the step again for."""


class Stepper(ABC):
    """Moves the parameters by their gradients, and can be saved and restored exactly."""

    @abstractmethod
    def step(self, multiplier: float, closure: Gradients, *, decay: float = 1.0) -> None:
        """One update at `multiplier` times the peak rates and `decay` times the peak weight decay.

        `closure` is for optimizers that look at more than one point; the others take the gradients as they stand. What
        it raises, Refused or memory that ran out, so does the step, and weights and state are as they were before.
        """

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

    @property
    @abstractmethod
    def period(self) -> int:
        """Updates after which their costs repeat: 1 where each costs the same, else what is between two dear ones."""

    @abstractmethod
    def build(self, parameters: Sequence[Named], *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Stepper:
        """A stepper over these parameters. `dtype` is the fastest one here for products that bear rounding, `seed` that of
        what it draws, the same on all ranks."""
