"""From a recipe to live objects: the model, the learner around it, and what the objective knows of the tokenizer."""

from gpuday.data.tokenizer import TextTokenizer
from gpuday.models.heads import MaskedLM
from gpuday.models.init import initialise
from gpuday.objectives import Learner, Vocabulary
from gpuday.recipe import Recipe


def vocabulary_of(tokenizer: TextTokenizer) -> Vocabulary:
    """Size and special ids of a tokenizer."""
    return Vocabulary(
        size=tokenizer.vocab_size, mask_id=tokenizer.mask_id, special_ids=tuple(sorted(tokenizer.special_ids))
    )


def make_model(recipe: Recipe, *, vocab: int) -> MaskedLM:
    """The recipe's model with its initial weights."""
    model = MaskedLM(recipe.model, vocab=vocab, length=recipe.data.length)
    initialise(model, recipe.model, recipe.seed)
    return model


def make_learner(recipe: Recipe, *, vocab: int) -> Learner:
    """The recipe's objective around its model."""
    return recipe.objective.build(lambda: make_model(recipe, vocab=vocab))
