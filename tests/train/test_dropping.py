"""The dropout of a learner follows a share of what it was built with, wherever it drops."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from gpuday.objectives import Learner, Vocabulary
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner
from gpuday.train.dropping import Dropouts

IDS = torch.arange(64).view(2, 32)


@pytest.fixture
def dropping(make_recipe: Callable[..., Recipe], vocabulary: Vocabulary) -> Learner:
    """A learner that drops tenths of embedding, attention and both branches, and whole layers, in training."""
    recipe = make_recipe(train__dropout=True, model__dropout=0.1, model__layer_drop=0.2)
    return make_learner(recipe, vocab=vocabulary.size).train()


def hidden(learner: Learner, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    with torch.no_grad():
        return learner.model.encoder(IDS)


def test_at_a_share_of_zero_nothing_is_dropped(dropping: Learner) -> None:
    """The hidden states of training are those of evaluation to the bit, from any seed."""
    Dropouts(dropping).at(0.0)
    trained = [hidden(dropping, seed) for seed in (0, 1)]
    evaluated = hidden(dropping.eval())
    assert all(torch.equal(one, evaluated) for one in trained)


def test_at_a_share_of_one_it_drops_as_it_was_built(dropping: Learner) -> None:
    """Also after it was at others: the same draws drop the same elements."""
    before, dropouts = hidden(dropping), Dropouts(dropping)
    dropouts.at(0.25)
    assert not torch.equal(hidden(dropping), before)
    dropouts.at(1.0)
    assert torch.equal(hidden(dropping), before)


def test_at_a_half_it_drops_as_a_learner_that_was_built_with_halves(
    dropping: Learner, make_recipe: Callable[..., Recipe], vocabulary: Vocabulary
) -> None:
    """Against the model whose recipe has half of each probability."""
    recipe = make_recipe(train__dropout=True, model__dropout=0.1, model__layer_drop=0.2)
    half = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, dropout=0.05, layer_drop=0.1))
    Dropouts(dropping).at(0.5)
    assert torch.equal(hidden(dropping), hidden(make_learner(half, vocab=vocabulary.size).train()))
