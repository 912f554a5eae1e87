"""Assembly: the recipe decides everything, the seed its weights."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from gpuday.data.prepare import PreparedData
from gpuday.models.mixers import Mixer
from gpuday.models.mixers._heads import MultiHead
from gpuday.models.mixers.flash_quad import FlashQuad
from gpuday.models.mixers.fourier import FourierMixing
from gpuday.models.mixers.hybrid import Hybrid
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain
from gpuday.objectives import Change
from gpuday.objectives.rtd import Rtd
from gpuday.recipe import Recipe
from gpuday.train.assemble import changed, make_learner, make_model, vocabulary_of

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
    """Counted by hand: embedding, which is the decoder, two blocks, head; norms have scales only, the first block one less."""
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


def test_the_vocabulary_knows_which_tokens_go_on_with_a_word(data: PreparedData) -> None:
    """Every token of letters that no space leads, and nothing that begins a word."""
    vocabulary = vocabulary_of(data.tokenizer)
    tokens = [data.tokenizer.tokenizer.id_to_token(i) for i in vocabulary.continues]
    assert len(tokens) > 50
    assert not any(token.startswith("\u0120") for token in tokens)
    assert not set(vocabulary.continues) & set(vocabulary.special_ids)
    assert vocabulary.continuing.sum() == len(vocabulary.continues)


def test_a_changed_model_is_narrower_and_drawn_from_its_own_stream(tiny: Recipe) -> None:
    """By whole heads, blocks in a row, a table as wide as asked for; other weights where shapes are the same."""
    small = make_model(tiny, vocab=512, change=Change(name="small", width=0.25, depth=0.5, same_embedding=True))
    assert (small.config.width, small.config.shape.depth, small.config.table_width) == (16, 1, 32)
    assert small.encoder.embedding.weight.shape == (512, 32)
    same = make_model(tiny, vocab=512, change=Change(name="small"))
    assert same.config == tiny.model
    assert not torch.equal(same.encoder.embedding.weight, make_model(tiny, vocab=512).encoder.embedding.weight)


@pytest.mark.parametrize(
    ("change", "depth"),
    [
        ({"mixer": Hybrid(last=2), "position": "learned"}, 1),
        ({"mixer": Hybrid(last=6), "position": "learned"}, 0),
        ({"feedforward_every": 4}, 0),
        ({"mixer": Softmax(value_residual=True), "skip": "unet"}, 1),
    ],
)
def test_a_generator_has_fewer_blocks_of_the_same_kinds(tiny: Recipe, change: dict[str, Any], depth: int) -> None:
    """A hybrid's two mixers, or in a single block the upper one; a network, although the period is longer than it."""
    model = replace(tiny.model, width=64, shape=Plain(layers=8), **({"mixer": Softmax()} | change))
    recipe = replace(tiny, model=model, objective=Rtd(generator_depth=(0.25, 0.125)[depth]))
    learner = make_learner(recipe, vocab=512)
    blocks = learner.generator.encoder.stack.blocks
    assert len(blocks) == (2, 1)[depth]
    assert blocks[-1].feedforward is not None
    assert isinstance(blocks[0].mixer, FourierMixing) == (len(blocks) == 2 and "mixer" in change)
    assert isinstance(blocks[-1].mixer, MultiHead)


@pytest.mark.parametrize(("mixer", "width"), [(FlashQuad(head_width=128), 64), (Softmax(head_width=128), 128)])
def test_a_generator_is_as_narrow_as_its_mixer_lets_it_be(tiny: Recipe, mixer: Mixer, width: int) -> None:
    """A gated attention unit's head is none of the model's width; softmax's heads fill it."""
    model = replace(tiny.model, width=256, mixer=mixer)
    assert changed(model, Change(name="small", width=0.25)).width == width


def test_what_an_objective_adds_is_drawn_from_the_seed(make_recipe: MakeRecipe) -> None:
    """Biases stay zero; the model's own weights are what they are without it."""
    first, again, other = (
        make_learner(make_recipe(objective={"part": "rtd"}, seed=seed), vocab=512) for seed in (0, 0, 1)
    )
    assert torch.equal(first.critic.dense, again.critic.dense)
    assert not torch.equal(first.critic.dense, other.critic.dense)
    assert not first.critic.dense_bias.any()
    wanted = make_model(make_recipe(), vocab=512).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in first.model.state_dict().items())
