"""One encoder that fills masks and then criticises what it filled in: the crammed code's variant of ELECTRA.

Geiping & Goldstein, arXiv 2212.14034, after Clark et al., arXiv 2003.10555: generator and discriminator share every
weight but the heads, so that the model keeps its head for masked tokens.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from gpuday.core.errors import within
from gpuday.core.seeds import U64
from gpuday.objectives import Costs, Int, Learner, MakeModel, Objective, Vocabulary
from gpuday.objectives._critic import CriticLearner, critic_flops, to_sample
from gpuday.objectives.mlm import Mlm


@dataclass(frozen=True, kw_only=True)
class Script(Objective):
    """Masked prediction plus `weight` times the binary cross-entropy of a second pass over what was sampled."""

    kinds: ClassVar[tuple[str, ...]] = ("masked",)
    mlm: Mlm = Mlm(rate=0.25)
    """What the first pass is asked."""
    weight: float = 1.0
    """Of the second pass's loss, a mean over positions, beside the first's, a mean over predictions."""

    def __post_init__(self) -> None:
        within("", weight=(self.weight, 0.0, 1e6))

    def kind_at(self, fraction: float, first_row: int, rows: int) -> str:
        return self.mlm.kind_at(fraction, first_row, rows)

    def predicted(self, length: int, multiplier: float, kind: str) -> int:
        return self.mlm.predicted(length, multiplier, kind)

    def inputs(
        self, rows: Int, keys: U64, *, seed: int, epoch: int, multiplier: float, kind: str, vocabulary: Vocabulary
    ) -> dict[str, NDArray[Any]]:
        made = self.mlm.inputs(
            rows, keys, seed=seed, epoch=epoch, multiplier=multiplier, kind=kind, vocabulary=vocabulary
        )
        return made | to_sample(made, keys, seed=seed, epoch=epoch)

    def training_flops(self, costs: Costs, *, length: int, multiplier: float, kind: str) -> float:
        k = self.predicted(length, multiplier, kind)
        shown = self.mlm.shown(length, k)
        passes = costs.forward(k / shown, length=shown) + costs.forward(0.0, length=shown)
        return 3 * (passes + critic_flops(costs.width)) * shown / length

    def notes(self) -> tuple[str, ...]:
        return self.mlm.notes()

    def build(self, make_model: MakeModel) -> Learner:
        model = make_model()
        return CriticLearner(model, model, loss=self.mlm.loss, weight=self.weight)
