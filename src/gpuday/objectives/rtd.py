"""Replaced token detection: a small generator fills masks by chance, and the model says of every token whether it stood
there (Clark et al., "ELECTRA", arXiv 2003.10555).

The model is the discriminator. It has no trained head for masked tokens: the generator has, and answers for it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from gpuday.core.errors import within
from gpuday.core.seeds import U64
from gpuday.objectives import Change, Costs, Int, Learner, MakeModel, Objective, Vocabulary
from gpuday.objectives._critic import CriticLearner, critic_flops, to_sample
from gpuday.objectives.mlm import Mlm


@dataclass(frozen=True, kw_only=True)
class Rtd(Objective):
    """The generator's masked prediction plus `weight` times the discriminator's binary cross-entropy."""

    kinds: ClassVar[tuple[str, ...]] = ("masked",)
    mlm: Mlm = Mlm(rate=0.15)
    """What the generator is asked."""
    weight: float = 50.0
    """Of the discriminator's loss, a mean over positions, beside the generator's, a mean over predictions."""
    generator_width: float = 0.25
    """Width of the generator as a share of the model's, to a whole number of heads."""
    generator_depth: float = 1.0
    """Blocks of the generator as a share of the model's."""
    share_embeddings: bool = True
    """Whether both have one table of tokens, which learns from both."""

    def __post_init__(self) -> None:
        within(
            "",
            weight=(self.weight, 0.0, 1e6),
            generator_width=(self.generator_width, 0.01, 1.0),
            generator_depth=(self.generator_depth, 0.01, 1.0),
        )

    @property
    def generator(self) -> Change:
        """The generator beside the model."""
        return Change(
            name="generator",
            width=self.generator_width,
            depth=self.generator_depth,
            same_embedding=self.share_embeddings,
        )

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
        generator = costs.forward(k / shown, length=shown, change=self.generator)
        return 3 * (generator + costs.forward(0.0, length=shown) + critic_flops(costs.width)) * shown / length

    def notes(self) -> tuple[str, ...]:
        generators = (
            "the held-out loss is the generator's: the model itself tells replaced tokens from originals, and its head "
            "for masked tokens stays untrained"
        )
        return (*self.mlm.notes(), generators)

    def build(self, make_model: MakeModel) -> Learner:
        model, generator = make_model(), make_model(self.generator)
        if self.share_embeddings:
            generator.encoder.embedding = model.encoder.embedding
        model.head.requires_grad_(False)
        return CriticLearner(model, generator, loss=self.mlm.loss, weight=self.weight)
