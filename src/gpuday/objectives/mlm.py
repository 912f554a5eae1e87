"""Masked language modelling with an exact number of predicted positions in every row.

Devlin et al., arXiv 1810.04805; exact counts and predictions at masked positions only as in Geiping & Goldstein,
arXiv 2212.14034. Shapes: R rows, L positions, k predicted positions a row, P = R k.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpuday.core.errors import UsageError
from gpuday.core.seeds import U64, hashes
from gpuday.objectives import Int, Learner, Objective, Vocabulary
from gpuday.objectives._cross_entropy import Piece, cross_entropy, piece


@dataclass(frozen=True, kw_only=True)
class Mlm(Objective):
    """Predict `rate` of the positions; of those, some are masked, some replaced at random, the rest kept."""

    rate: float = 0.3
    """Peak share of positions that are predicted."""
    masked: float = 1.0
    """Share of the predicted positions that show the mask token."""
    random: float = 0.0
    """Share that shows a random token; what is left shows the token itself."""
    predict_specials: bool = True
    """Whether separators and the like may be predicted."""

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise UsageError(f"rate is {self.rate}", where="objective.rate", fix="give a share above 0, at most 1")
        if self.masked < 0 or self.random < 0 or self.masked + self.random > 1.0 + 1e-9:
            raise UsageError(
                f"masked {self.masked} and random {self.random} are no shares of a whole",
                where="objective",
                fix="give two shares that add up to 1 at most",
            )

    def predicted(self, length: int, multiplier: float) -> int:
        return min(length, max(1, round(self.rate * multiplier * length)))

    def inputs(
        self, rows: Int, keys: U64, *, seed: int, epoch: int, multiplier: float, vocabulary: Vocabulary
    ) -> dict[str, NDArray[Any]]:
        count, length = rows.shape
        k = self.predicted(length, multiplier)
        draw = hashes(seed, "mask", epoch, keys, length)
        if not self.predict_specials:
            draw = draw >> np.uint64(1)
            draw[np.isin(rows, vocabulary.special_ids)] |= np.uint64(1 << 63)  # taken only when nothing else is left
        # The k smallest draws, in random order: which of them are masked, replaced or kept is again by chance.
        chosen = np.argpartition(draw, k - 1, axis=1)[:, :k] if k < length else np.tile(np.arange(length), (count, 1))
        chosen = np.take_along_axis(chosen, np.argsort(np.take_along_axis(draw, chosen, 1), axis=1), 1)
        labels = np.take_along_axis(rows, chosen, 1)
        shown = labels.copy()
        until_masked, until_random = round(self.masked * k), round((self.masked + self.random) * k)
        shown[:, :until_masked] = vocabulary.mask_id
        replaced = hashes(seed, "replace", epoch, keys, until_random - until_masked) % np.uint64(vocabulary.size)
        shown[:, until_masked:until_random] = replaced.astype(np.int64)
        ids = rows.copy()
        np.put_along_axis(ids, chosen, shown, 1)
        positions = chosen + length * np.arange(count)[:, None]
        order = np.argsort(positions, axis=1)  # ascending positions make the gather and its backward sequential
        return {
            "ids": ids,
            "positions": np.take_along_axis(positions, order, 1).reshape(-1),
            "labels": np.take_along_axis(labels, order, 1).reshape(-1),
            "weights": np.ones(count * k, dtype=np.float32),
        }

    def build(self, make_model: Callable[[], nn.Module]) -> Learner:
        return MaskedLearner(make_model())


class MaskedLearner(Learner):
    """Trunk, head and loss are three regions, so that a mask rate on a schedule compiles the small ones alone anew."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._trunk: Callable[..., Tensor] = model.encoder
        self._features: Callable[[Tensor, Tensor], Tensor] = model.features
        self._piece: Piece = piece

    def compile(self, **options: Any) -> None:
        self._trunk = torch.compile(self.model.encoder, **options)
        self._features = torch.compile(self.model.features, **options)
        self._piece = torch.compile(piece, **options)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        hidden = self._trunk(inputs["ids"], None, inputs.get("segments"))
        features = self._features(hidden, inputs["positions"])
        table, bias = self.model.decoder()
        return cross_entropy(features, table, bias, inputs["labels"], inputs["weights"], self._piece)
