from dataclasses import replace

import pytest
import torch

from gpuday.core.clock import Budget
from gpuday.core.errors import GpudayError
from gpuday.export.bert import BERT
from gpuday.export.modernbert import MODERNBERT
from gpuday.export.native import Renaming, Requirement, Specials
from gpuday.models.feedforward.geglu import Geglu
from gpuday.models.shapes.recurrent import Recurrent
from gpuday.presets import find


def test_an_obstacle_names_axis_and_value(modern):
    """The sentence tells a user which key of the recipe to change."""
    fits = lambda c: c.mixer.window == 0  # noqa: E731
    wants = Requirement(axis="mixer.window", fits=fits, reason="no windows here", nearest=0)
    assert wants.obstacle(modern) == "mixer.window is 16: no windows here (nearest: 0)"
    assert wants.obstacle(replace(modern, mixer=replace(modern.mixer, window=0))) is None


def test_an_obstacle_names_a_part_by_its_file(bert):
    """A part is shown under the name that recipes use."""
    wants = Requirement(axis="feedforward", fits=lambda _: False, reason="never", nearest=Geglu())
    assert wants.obstacle(bert) == "feedforward is gelu: never (nearest: geglu)"


def test_an_obstacle_is_written_as_in_a_recipe_s_file(bert):
    """A switch is true or false, as `--set` takes it."""
    wants = Requirement(axis="tied", fits=lambda _: False, reason="never", nearest=False)
    assert wants.obstacle(bert) == "tied is true: never (nearest: false)"


@pytest.mark.parametrize("size", ["nano", "base"])
@pytest.mark.parametrize("budget", ["10m", "24h"])
def test_presets_fit_the_class_that_they_promise(size, budget):
    """`modern` is a ModernBERT and `bert` a BERT at every size and budget, and neither is the other."""
    modern, bert = (find(name)(size, Budget.parse(budget)).model for name in ("modern", "bert"))
    assert not MODERNBERT.obstacles(modern) and not BERT.obstacles(bert)
    assert BERT.obstacles(modern) and MODERNBERT.obstacles(bert)


def test_crammed_is_told_why_it_fits_no_class():
    """Every axis in the way is named, and no other."""
    crammed = find("crammed")("base", Budget.parse("24h")).model
    axes = [sentence.split()[0] for sentence in MODERNBERT.obstacles(crammed)]
    assert axes == ["position", "first_norm"]
    axes = [sentence.split()[0] for sentence in BERT.obstacles(crammed)]
    assert axes == ["feedforward", "placement", "final_norm", "head_transform"]


@pytest.mark.parametrize("size", ["nano", "base"])
def test_the_other_presets_are_told_why_too(size):
    """`crammed_v1` differs from `crammed` in its head, which a ModernBERT can hold; `izsak` has added positions."""
    first, izsak = (find(name)(size, Budget.parse("24h")).model for name in ("crammed_v1", "izsak"))
    assert [sentence.split()[0] for sentence in MODERNBERT.obstacles(first)] == ["position", "first_norm"]
    assert [sentence.split()[0] for sentence in MODERNBERT.obstacles(izsak)] == ["position", "first_norm"]
    assert [sentence.split()[0] for sentence in BERT.obstacles(izsak)] == ["placement", "final_norm"]


def test_what_concerns_the_head_alone_is_no_obstacle_without_it(modern):
    """A cap on logits leaves the encoder as it is."""
    capped = replace(modern, logit_cap=30.0)
    assert MODERNBERT.obstacles(capped) and not MODERNBERT.obstacles(capped, head=False)


def test_a_block_that_is_passed_again_is_written_out(bert, make_model):
    """Each passage has a copy of the weights, and all of them count as moved."""
    model = make_model(replace(bert, shape=Recurrent(layers=2, repeats=2)))
    names = Renaming(model)
    copies = [names.need(f"encoder.stack.blocks.{at}.mixer.out.weight") for at in range(4)]
    assert torch.equal(copies[0], copies[2]) and torch.equal(copies[1], copies[3])
    assert not torch.equal(copies[0], copies[1])
    assert names.take("encoder.stack.blocks.4.mixer.out.weight") is None


def test_shared_config_keys_come_from_model_and_length(modern, make_model):
    """Vocabulary, width, depth, length and tying stand in config.json as the model has them, in fp32."""
    models = {tied: make_model(replace(modern, tied=tied)) for tied in (True, False)}
    config, untied = (MODERNBERT.config(models[tied], Specials(pad=0, cls=2, sep=3), version="5.0") for tied in models)
    expected = {
        "architectures": ["ModernBertForMaskedLM"],
        "model_type": "modernbert",
        "vocab_size": 320,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "max_position_embeddings": 48,
        "tie_word_embeddings": True,
        "dtype": "float32",
        "torch_dtype": "float32",
    }
    assert {key: config[key] for key in expected} == expected
    assert untied == config | {"tie_word_embeddings": False}


def test_a_weight_left_behind_is_refused(modern, make_model):
    """A mapping that forgets a weight of ours cannot finish."""
    names = Renaming(make_model(modern))
    names.move("encoder.embedding", "somewhere")
    with pytest.raises(GpudayError, match="forgot the weights"):
        names.finish()


def test_a_weight_that_is_not_there_is_named(modern, make_model):
    """A mapping that asks for a weight that the model lacks says which."""
    with pytest.raises(GpudayError, match=r"encoder\.table"):
        Renaming(make_model(modern)).need("encoder.table")
