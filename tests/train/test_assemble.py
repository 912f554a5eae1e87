"""Assembly: the recipe decides everything, the seed its weights."""

from collections.abc import Callable

import torch

from gpuday.data.prepare import PreparedData
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner, make_model, vocabulary_of

MakeRecipe = Callable[..., Recipe]


def test_the_vocabulary_is_the_tokenizers(data: PreparedData) -> None:
    """Size, mask and specials, against the tokenizer's own answers for its tokens."""
    vocabulary = vocabulary_of(data.tokenizer)
    assert vocabulary.size == data.tokenizer.vocab_size == 512
    assert vocabulary.mask_id == data.tokenizer.mask_id
    assert vocabulary.mask_id in vocabulary.special_ids
    assert list(vocabulary.special_ids) == sorted(set(vocabulary.special_ids))
    assert set(vocabulary.special_ids) == set(data.tokenizer.special_ids)


def test_a_model_has_the_recipes_size(tiny: Recipe) -> None:
    """Counted by hand: embedding, two blocks, head; norms have scales only, the first block one less."""
    model = make_model(tiny, vocab=512)
    block = 96 * 32 + 32 * 32 + 128 * 32 + 32 * 64
    norms = 1 + (1 + 2) + 1 + 1  # embedding, blocks, last, head
    assert sum(p.numel() for p in model.parameters()) == 512 * 32 + 2 * block + 32 * 32 + norms * 32
    assert model.encoder.length == 32


def test_weights_follow_the_seed_and_nothing_else(make_recipe: MakeRecipe) -> None:
    """Whatever drew random numbers before."""
    torch.manual_seed(1)
    first = make_model(make_recipe(), vocab=512).state_dict()
    torch.manual_seed(2)
    again = make_model(make_recipe("10m"), vocab=512).state_dict()
    other = make_model(make_recipe(seed=1), vocab=512).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.embedding.weight"], other["encoder.embedding.weight"])


def test_the_learner_holds_the_model_under_its_name(tiny: Recipe) -> None:
    """`model.` before each parameter: evaluation and export find the model's weights by it."""
    learner = make_learner(tiny, vocab=512)
    wanted = make_model(tiny, vocab=512)
    names = dict(learner.named_parameters())
    assert set(names) == {f"model.{name}" for name, _ in wanted.named_parameters()}
    assert all(torch.equal(names[f"model.{name}"], p) for name, p in wanted.named_parameters())
