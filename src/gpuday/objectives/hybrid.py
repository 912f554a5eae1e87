"""Masked and causal steps by turns, of one model with one head: GPT-BERT, and causal training before masked training.

With `shift` a masked token is predicted from the position before it, as every next token is: masked next-token
prediction (Charpentier & Samuel, "GPT or BERT: why not both?", arXiv 2410.24159). Without it masked steps are those of
BERT; `first` alone then is the two-phase training of Gisserot-Boukhlef et al., arXiv 2507.00994. Shapes: R rows, L
positions.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpuday.core.errors import UsageError, within
from gpuday.core.seeds import U64
from gpuday.objectives import Costs, Int, Learner, MakeModel, Objective, Vocabulary
from gpuday.objectives.mlm import CAUSAL, MaskedLearner, Mlm

MASKED = "masked"


@dataclass(frozen=True, kw_only=True)
class Hybrid(Objective):
    """Each step is wholly causal or wholly masked."""

    kinds: ClassVar[tuple[str, ...]] = (MASKED, CAUSAL)
    mlm: Mlm = Mlm()
    """What masked steps ask; its loss is that of causal ones too."""
    first: float = 0.0
    """Share of the budget at its beginning in which every step is causal."""
    causal: float = 0.0625
    """Share of causal steps after that, spread evenly."""
    shift: bool = True
    """Whether masked tokens, too, are predicted from the position before them."""

    def __post_init__(self) -> None:
        within("", first=(self.first, 0.0, 1.0), causal=(self.causal, 0.0, 1.0))
        if self.mlm.token_drop:
            raise UsageError(
                "with tokens left out, the next one is not the one that follows",
                where="mlm.token_drop",
                fix="set it to 0",
            )

    def kind_at(self, fraction: float, first_row: int, rows: int) -> str:
        # As a line of slope `causal` is drawn on paper with squares: a step up wherever it has risen by a whole one.
        before = math.floor(self.causal * first_row / rows)
        rises = math.floor(self.causal * (first_row + rows) / rows) > before
        return CAUSAL if fraction < self.first or rises else MASKED

    def predicted(self, length: int, multiplier: float, kind: str) -> int:
        if kind == CAUSAL:
            return length - 1
        return self.mlm.predicted(length - self._before, multiplier, kind)

    def inputs(
        self, rows: Int, keys: U64, *, seed: int, epoch: int, multiplier: float, kind: str, vocabulary: Vocabulary
    ) -> dict[str, NDArray[Any]]:
        count, length = rows.shape
        if kind == CAUSAL:
            # A model that is `shifted` is given the position of the token itself.
            columns = np.arange(1, length) - (0 if self.shift else 1)
            return {
                "ids": rows,
                "positions": (columns + length * np.arange(count)[:, None]).reshape(-1),
                "labels": rows[:, 1:].reshape(-1),
                "weights": np.ones(count * (length - 1), dtype=np.float32),
            }
        # Nothing stands before the first token of a row.
        before, asked = rows[:, : self._before], rows[:, self._before :]
        made = self.mlm.inputs(
            asked, keys, seed=seed, epoch=epoch, multiplier=multiplier, kind=kind, vocabulary=vocabulary
        )
        row, column = np.divmod(made["positions"], length - self._before)
        return made | {
            "ids": np.concatenate([before, made["ids"]], axis=1),
            "positions": row * length + column + self._before,
        }

    def training_flops(self, costs: Costs, *, length: int, multiplier: float, kind: str) -> float:
        return 3 * costs.forward(self.predicted(length, multiplier, kind) / length, length=length)

    def notes(self) -> tuple[str, ...]:
        shifted = (
            "tokens are predicted from the position before them: the held-out question leaves out each row's first "
            "position, and other programs' heads for masked tokens do not fit this model"
        )
        return (*self.mlm.notes(), *([shifted] if self.shift else []))

    def build(self, make_model: MakeModel) -> Learner:
        model = make_model()
        if not model.encoder.config.causal:
            raise UsageError(
                "this model cannot look back only, as causal steps need",
                where="objective",
                fix="choose a mixer and a shape that can, such as softmax and plain, or the objective mlm",
            )
        model.shifted = self.shift
        return MaskedLearner(model, self.mlm.loss)

    @property
    def _before(self) -> int:
        return 1 if self.shift else 0
