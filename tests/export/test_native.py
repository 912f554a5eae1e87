from dataclasses import replace

import pytest

from gpuday.core.clock import Budget
from gpuday.core.errors import GpudayError
from gpuday.export.bert import BERT
from gpuday.export.modernbert import MODERNBERT
from gpuday.export.native import Renaming, Requirement, Specials
from gpuday.presets import find


def test_an_obstacle_names_axis_and_value(modern):
    """The sentence tells a user which key of the recipe to change."""
    wants = Requirement(axis="mixer.window", fits=lambda c: c.mixer.window == 0, reason="no windows here")
    assert wants.obstacle(modern) == "mixer.window is 16: no windows here"
    assert wants.obstacle(replace(modern, mixer=replace(modern.mixer, window=0))) is None


def test_an_obstacle_names_a_part_by_its_file(bert):
    """A part is shown under the name that recipes use."""
    wants = Requirement(axis="feedforward", fits=lambda _: False, reason="never")
    assert wants.obstacle(bert) == "feedforward is gelu: never"


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


def test_shared_config_keys_come_from_model_and_length(modern, make_model):
    """Vocabulary, width, depth, length and tying stand in config.json as the model has them, in fp32."""
    config = MODERNBERT.config(make_model(modern), Specials(pad=0, cls=2, sep=3), version="5.0")
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
