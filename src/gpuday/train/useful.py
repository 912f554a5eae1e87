"""Useful FLOPs of training a recipe on one input token.

Useful is one pass forward and backward over each row. Where an optimizer has more gradients computed, at other points, a
budget in FLOPs pays for all of them; progress, journal and FLOPs per second count the useful ones.
"""

from dataclasses import dataclass

from gpuday.models.encoder import EncoderConfig
from gpuday.models.flops import forward_per_token
from gpuday.objectives import Change
from gpuday.recipe import Recipe
from gpuday.train.assemble import changed


@dataclass(frozen=True)
class ModelCosts:
    """The `Costs` of a model with a vocabulary of so many."""

    model: EncoderConfig
    vocab: int

    @property
    def width(self) -> int:
        return self.model.width

    def forward(self, share: float, *, length: int, change: Change | None = None) -> float:
        return forward_per_token(changed(self.model, change), vocab=self.vocab, length=length, predicted_share=share)


def flops_per_token(
    recipe: Recipe, *, vocab: int, length: int = 0, multiplier: float = 1.0, kind: str | None = None
) -> float:
    """In rows of `length` tokens, 0 being the data's own, at this share of the objective's peak rate, in a step of this
    kind, None being its first."""
    objective = recipe.objective
    return objective.training_flops(
        ModelCosts(recipe.model, vocab),
        length=length or recipe.data.length,
        multiplier=multiplier,
        kind=kind or objective.kinds[0],
    )
