"""Replaced token detection: a small generator beside the model that is kept."""

import dataclasses

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.objectives.rtd import Rtd


@pytest.mark.parametrize(("share", "width"), [(0.25, 16), (0.5, 16), (1.0, 32), (0.01, 16)])
def test_the_generator_is_narrower_by_whole_heads(make_model, share, width):
    """Of a model 32 wide with heads of 16: at least one head, at most all of them."""
    learner = Rtd(generator_width=share).build(make_model)
    assert learner.generator.encoder.config.width == width
    assert learner.model.encoder.config.width == 32


@pytest.mark.parametrize(("share", "layers"), [(0.01, 1), (0.5, 1), (1.0, 2)])
def test_the_generator_is_shallower_by_whole_blocks(make_model, share, layers):
    """Of two blocks."""
    assert Rtd(generator_depth=share).build(make_model).generator.encoder.config.shape.depth == layers


def test_one_table_of_tokens_learns_from_both(make_model):
    """Shared it is one parameter, as wide as the model's, that is saved once; else there are two."""
    shared, apart = (Rtd(share_embeddings=s).build(make_model) for s in (True, False))
    assert shared.generator.encoder.embedding is shared.model.encoder.embedding
    assert shared.generator.decoder().table is shared.model.encoder.embedding.weight
    tables = [
        [n for n, _ in learner.named_parameters() if n.endswith("embedding.weight")] for learner in (shared, apart)
    ]
    assert tables == [
        ["model.encoder.embedding.weight"],
        ["model.encoder.embedding.weight", "generator.encoder.embedding.weight"],
    ]
    assert apart.generator.encoder.embedding.weight.shape == (100, 16)


def test_the_models_own_head_for_masked_tokens_is_set_aside(make_model):
    """It is not trained, and a reader of the run is told so, and that the held-out loss is the generator's."""
    learner = Rtd().build(make_model)
    aside = [name for name, p in learner.named_parameters() if not p.requires_grad]
    assert aside == [f"model.head.{name}" for name, _ in learner.model.head.named_parameters()]
    assert aside
    (note,) = Rtd().notes()
    assert "held-out loss is the generator's" in note
    assert learner.predictor is learner.generator


def test_the_generator_is_asked_what_its_mlm_asks(rows, vocabulary):
    """Rate and roles are those of `mlm`, whole; what is sampled comes beside them."""
    objective = dataclasses.replace(Rtd(), mlm=dataclasses.replace(Rtd().mlm, rate=0.5, masked=0.5, random=0.5))
    given = {"seed": 0, "epoch": 0, "multiplier": 1.0, "kind": "masked", "vocabulary": vocabulary}
    keys = rows[:, 0].astype("uint64")
    made, inner = objective.inputs(rows, keys, **given), objective.mlm.inputs(rows, keys, **given)
    assert set(made) - set(inner) == {"uniform"}
    assert all(torch.equal(torch.from_numpy(made[k]), torch.from_numpy(inner[k])) for k in inner)
    assert objective.predicted(16, 1.0, "masked") == 8


@pytest.mark.parametrize("axes", [{"weight": -1.0}, {"generator_width": 0.0}, {"generator_depth": 1.5}])
def test_shares_out_of_range_are_refused(axes):
    """With the field's name."""
    with pytest.raises(UsageError) as caught:
        Rtd(**axes)
    assert caught.value.where == next(iter(axes))
