"""Objectives: what rows of tokens are turned into, and the loss that is taken on them.

Shapes: R rows, L positions, P predicted positions in all.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, final

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
    continues: tuple[int, ...] = ()
    """Ids that go on with the word of the token before them; every other one begins a word."""

    @cached_property
    def continuing(self) -> NDArray[np.bool_]:
        """[size]: whether an id is among those."""
        found = np.zeros(self.size, dtype=np.bool_)
        found[list(self.continues)] = True
        return found


@dataclass(frozen=True, kw_only=True)
class Change:
    """How an extra model differs from the recipe's own."""

    name: str
    """Of its own stream of initial weights."""
    width: float = 1.0
    """Its width as a share of the model's."""
    same_embedding: bool = False
    """Whether its table of tokens is as wide as the model's, so that both can share one."""
    depth: float = 1.0
    """Its number of blocks as a share of the model's; below 1 they stand in a row, whatever the model's shape."""


class Model(Protocol):
    """What an objective asks of a model: an encoder, features at flattened positions, and what decodes them."""

    encoder: nn.Module

    def features(self, hidden: Tensor, positions: Tensor | None = None) -> Tensor: ...

    def decoder(self) -> tuple[Tensor, Tensor | None, float]: ...


class MakeModel(Protocol):
    """Makes the recipe's model, or one changed; every time with the same initial weights."""

    def __call__(self, change: Change | None = None, /) -> Any: ...


class Costs(Protocol):
    """What the recipe's model costs by formula, or one changed."""

    @property
    def width(self) -> int:
        """Of the model's hidden states."""

    def forward(self, share: float, *, length: int, change: Change | None = None) -> float:
        """Forward FLOPs for a token of a row of `length` tokens when `share` of them reach the head."""


class Learner(nn.Module, ABC):
    """A model and whatever else the objective trains beside it."""

    model: Any
    """What is exported and fine-tuned."""

    @property
    @abstractmethod
    def predictor(self) -> Any:
        """The model that predicts masked tokens, and so answers the held-out question."""

    @final
    def encoders(self) -> list[Any]:
        """Those of both, each once."""
        return list({id(model.encoder): model.encoder for model in (self.model, self.predictor)}.values())

    @abstractmethod
    def forward(self, inputs: dict[str, Tensor], kind: str) -> Tensor:
        """The loss as a scalar: the sum over the micro-batch of weight times loss, weights from `inputs`, which were
        made for a step of this `kind` of the objective's."""

    @abstractmethod
    def compile(self, **options: Any) -> None:
        """Compile the regions whose shapes are fixed."""


class Objective(Part, ABC):
    """Turns rows into inputs and targets, on the loader's thread, and builds the learner that takes the loss."""

    kinds: ClassVar[tuple[str, ...]]
    """The kinds of steps that it has, each of which compiles once; the first is the one that figures of a recipe are told of."""

    @abstractmethod
    def kind_at(self, fraction: float, first_row: int, rows: int) -> str:
        """Which of its kinds the step is that reads `rows` rows of the stream from this one on, at this fraction of the
        budget."""

    @abstractmethod
    def predicted(self, length: int, multiplier: float, kind: str) -> int:
        """Predicted positions in a row of `length` when the scheduled rate is at `multiplier` of its peak."""

    @abstractmethod
    def inputs(
        self, rows: Int, keys: U64, *, seed: int, epoch: int, multiplier: float, kind: str, vocabulary: Vocabulary
    ) -> dict[str, NDArray[Any]]:
        """Arrays for the learner from rows [R, L]; randomness depends on (seed, epoch, key of the row) alone.

        Always holds `ids` [R, shown], as many for each row, and where these are fewer than L the `columns` [R, shown] of
        the row that they stand for. Always holds `weights` [P] fp32, one for a position that counts: the loader sets those of padded rows to zero
        and divides the others by the number of positions in the whole step.
        """

    @abstractmethod
    def training_flops(self, costs: Costs, *, length: int, multiplier: float, kind: str) -> float:
        """Useful FLOPs of forward and backward for one token of a row of `length`, shown to the model or not."""

    @abstractmethod
    def notes(self) -> tuple[str, ...]:
        """What the reader of a run must know of it beforehand."""

    @abstractmethod
    def build(self, make_model: MakeModel) -> Learner:
        """The learner around a freshly made model; `make_model` may be called again for extra ones.

        What it adds beside them draws initial weights that are the same for every seed: the caller draws them anew.
        """
