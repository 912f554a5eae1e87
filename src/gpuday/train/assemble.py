"""From a recipe to live objects: the model, the learner around it, and what the objective knows of the tokenizer."""

import math
from dataclasses import replace

import torch
from torch import nn

from gpuday.core.seeds import stream_seed
from gpuday.data.tokenizer import TextTokenizer
from gpuday.models.encoder import EncoderConfig
from gpuday.models.heads import MaskedLM
from gpuday.models.init import initialise
from gpuday.objectives import Change, Learner, Vocabulary
from gpuday.recipe import Recipe


def vocabulary_of(tokenizer: TextTokenizer) -> Vocabulary:
    """Size, special ids and where words begin, of a tokenizer."""
    return Vocabulary(
        size=tokenizer.vocab_size,
        mask_id=tokenizer.mask_id,
        special_ids=tuple(sorted(tokenizer.special_ids)),
        continues=tokenizer.continuing_ids,
    )


def make_model(recipe: Recipe, *, vocab: int, change: Change | None = None) -> MaskedLM:
    """The recipe's model with its initial weights; or one changed, with weights from a stream of its own."""
    architecture = changed(recipe.model, change)
    model = MaskedLM(architecture, vocab=vocab, length=recipe.data.length)
    initialise(model, architecture, recipe.seed, stream="init" if change is None else f"init/{change.name}")
    return model


def make_learner(recipe: Recipe, *, vocab: int) -> Learner:
    """The recipe's objective around its model."""
    models: list[nn.Module] = []

    def make(change: Change | None = None, /) -> MaskedLM:
        models.append(make_model(recipe, vocab=vocab, change=change))
        return models[-1]  # type: ignore[return-value]

    learner = recipe.objective.build(make)
    _draw_others(learner, models, recipe)
    return learner


def changed(architecture: EncoderConfig, change: Change | None) -> EncoderConfig:
    """The config of a model that differs by so much: its width is a whole number of heads, two even halves at least."""
    if change is None:
        return architecture
    if change.depth < 1.0:
        architecture = architecture.shortened(max(1, round(change.depth * architecture.shape.depth)))
    unit = math.lcm(2, architecture.mixer.traits.unit)
    width = min(architecture.width, unit * max(1, round(change.width * architecture.width / unit)))
    table = architecture.table_width if change.same_embedding else architecture.embedding_width
    return replace(architecture, width=width, embedding_width=0 if table == width else table)


@torch.no_grad()
def _draw_others(learner: Learner, models: list[nn.Module], recipe: Recipe) -> None:
    """Initial values, from the seed, of matrices and vectors that an objective drew for all seeds alike."""
    made = {id(p) for model in models for p in model.parameters()}
    for name, parameter in learner.named_parameters():
        if id(parameter) in made or parameter.is_meta:  # made without memory, to see that it can be made
            continue
        if bool(parameter.any()):  # zeros are biases, and stay
            generator = torch.Generator().manual_seed(stream_seed(recipe.seed, f"init/{name}"))
            parameter.copy_(recipe.model.init_std * torch.randn(parameter.shape, generator=generator))
