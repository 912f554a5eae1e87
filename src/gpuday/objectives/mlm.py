"""Masked language modelling with an exact number of predicted positions in every row.

Devlin et al., arXiv 1810.04805; exact counts and predictions at masked positions only as in Geiping & Goldstein,
arXiv 2212.14034; tokens left out of the whole stack as there, after Hou et al., arXiv 2203.13240. Shapes: R rows, L
positions, k predicted positions a row, P = R k.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuday.core.errors import UsageError, within
from gpuday.core.seeds import U64, hashes
from gpuday.objectives import Costs, Int, Learner, MakeModel, Objective, Vocabulary
from gpuday.objectives._choosing import Unit, choose, keep
from gpuday.objectives._loss import PLAIN, Loss
from gpuday.objectives._predicting import Predictions

CAUSAL = "causal"  # the kind of step in which no position sees what follows it


@dataclass(frozen=True, kw_only=True)
class Mlm(Objective):
    """Predict `rate` of the positions; of those, some are masked, some replaced at random, the rest kept."""

    kinds: ClassVar[tuple[str, ...]] = ("masked",)
    rate: float = 0.3
    """Peak share of positions that are predicted."""
    masked: float = 1.0
    """Share of the predicted positions that show the mask token."""
    random: float = 0.0
    """Share that shows a random token; what is left shows the token itself."""
    predict_specials: bool = True
    """Whether separators and the like may be predicted."""
    unit: Unit = "token"
    """What is chosen by chance: single tokens, whole words, or spans of words."""
    token_drop: float = 0.0
    """Share of the tokens that are not predicted which is left out of the row; what stays moves together."""
    loss: Loss = PLAIN
    """What a prediction costs."""

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise UsageError(f"rate is {self.rate}", where="rate", fix="give a share above 0, at most 1")
        if self.masked < 0 or self.random < 0 or self.masked + self.random > 1.0 + 1e-9:
            raise UsageError(
                f"masked {self.masked} and random {self.random} are no shares of a whole",
                where="masked",
                fix="give two shares that add up to 1 at most",
            )
        within("", token_drop=(self.token_drop, 0.0, 0.95))

    def kind_at(self, fraction: float, first_row: int, rows: int) -> str:
        return self.kinds[0]

    def predicted(self, length: int, multiplier: float, kind: str) -> int:
        return min(length, max(1, round(self.rate * multiplier * length)))

    def inputs(
        self, rows: Int, keys: U64, *, seed: int, epoch: int, multiplier: float, kind: str, vocabulary: Vocabulary
    ) -> dict[str, NDArray[Any]]:
        count, length = rows.shape
        k = self.predicted(length, multiplier, kind)
        chosen = choose(
            rows,
            keys,
            k,
            unit=self.unit,
            predict_specials=self.predict_specials,
            seed=seed,
            epoch=epoch,
            vocabulary=vocabulary,
        )
        labels = np.take_along_axis(rows, chosen, 1)
        shown = labels.copy()
        until_masked, until_random = round(self.masked * k), round((self.masked + self.random) * k)
        shown[:, :until_masked] = vocabulary.mask_id
        replaced = hashes(seed, "replace", epoch, keys, until_random - until_masked) % np.uint64(vocabulary.size)
        shown[:, until_masked:until_random] = replaced.astype(np.int64)
        ids = rows.copy()
        np.put_along_axis(ids, chosen, shown, 1)
        made: dict[str, NDArray[Any]] = {}
        if self.token_drop:
            made["columns"] = keep(chosen, length, self.shown(length, k), keys, seed=seed, epoch=epoch)
            ids = np.take_along_axis(ids, made["columns"], 1)
            chosen = _moved(chosen, made["columns"], length)
        positions = chosen + ids.shape[1] * np.arange(count)[:, None]
        order = np.argsort(positions, axis=1)  # ascending positions make the gather and its backward sequential
        return made | {
            "ids": ids,
            "positions": np.take_along_axis(positions, order, 1).reshape(-1),
            "labels": np.take_along_axis(labels, order, 1).reshape(-1),
            "weights": np.ones(count * k, dtype=np.float32),
        }

    def training_flops(self, costs: Costs, *, length: int, multiplier: float, kind: str) -> float:
        k = self.predicted(length, multiplier, kind)
        shown = self.shown(length, k)
        return 3 * costs.forward(k / shown, length=shown) * shown / length

    def notes(self) -> tuple[str, ...]:
        squares = "the squared error on logits trains no probabilities: held-out losses say little of such a run"
        return (squares,) if self.loss.kind == "mse" else ()

    def build(self, make_model: MakeModel) -> Learner:
        return MaskedLearner(make_model(), self.loss)

    def shown(self, length: int, k: int) -> int:
        """Tokens that the model sees of a row of `length` in which k are predicted."""
        return length - round(self.token_drop * (length - k))


def _moved(chosen: Int, columns: Int, length: int) -> Int:
    """Where columns [R, k] of rows of `length` stand among those that stay, [R, L]."""
    places = np.zeros((len(columns), length), dtype=np.int64)
    np.put_along_axis(places, columns, np.arange(columns.shape[1])[None], 1)
    return np.take_along_axis(places, chosen, 1)


class MaskedLearner(Learner):
    """Predictions at positions, of a model that looks both ways, or only back in a step of the kind `causal`.

    Trunk, head and loss are three regions, so that a mask rate on a schedule compiles the small ones alone anew.
    """

    def __init__(self, model: Any, loss: Loss = PLAIN) -> None:
        super().__init__()
        self.model = model
        self._trunk: Callable[..., Tensor] = model.encoder
        self._predictions = Predictions(model, loss)

    @property
    def predictor(self) -> Any:
        return self.model

    def compile(self, **options: Any) -> None:
        self._trunk = torch.compile(self.model.encoder, **options)
        self._predictions.compile(**options)

    def forward(self, inputs: dict[str, Tensor], kind: str) -> Tensor:
        hidden = self._trunk(inputs["ids"], None, inputs.get("segments"), kind == CAUSAL)
        return self._predictions.loss(hidden, inputs)
