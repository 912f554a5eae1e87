import json
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import save_file

from gpuday.export.bert import BERT
from gpuday.export.native import Specials
from gpuday.export.parity import check_model
from gpuday.models.feedforward.geglu import Geglu
from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain
from gpuday.models.shapes.recurrent import Recurrent

NO_BIASES = dict.fromkeys(
    ("qkv_bias", "mixer_bias", "feedforward_bias", "norm_bias", "head_bias", "decoder_bias"), False
)
VARIANTS = {
    "preset": {},
    "untied": {"tied": False},
    "no biases": NO_BIASES,
    "untied without biases": {"tied": False, **NO_BIASES},
    "sinusoidal positions": {"position": "sinusoidal"},
    "scaled sinusoidal positions": {"position": "scaled_sinusoidal"},
    "no positions": {"position": "none"},
    "blocks passed three times": {"shape": Recurrent(layers=2, repeats=3)},
    "deepnorm": {"placement": "deepnorm"},
    "deepnorm, a large eps, blocks passed twice": {
        "placement": "deepnorm",
        "norm_eps": 1e-2,
        "shape": Recurrent(layers=1, repeats=2),
    },
    "norms without scale": {"norm_scale": False, "norm_bias": False},
    "another eps": {"norm_eps": 1e-3},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_logits_equal_on_padded_rows(changes, bert, make_model, tmp_path):
    """Whatever fits is expressed exactly: within 1e-4 on logits of scale 4, all weights random."""
    config = replace(bert, **changes)
    assert BERT.obstacles(config) == []
    model = make_model(config)
    settings = BERT.config(model, Specials(pad=0, cls=2, sep=3), version=transformers.__version__)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    save_file(BERT.weights(model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = check_model(model, tmp_path)
    assert found["parity_max_abs"] <= 1e-4
    assert model(torch.arange(48)[None]).std() > 1.0  # logits of a size at which 1e-4 means something


@pytest.mark.parametrize(
    ("changes", "axis"),
    [
        ({"norm": "rmsnorm"}, "norm"),
        ({"placement": "pre"}, "placement"),
        ({"position": "rotary"}, "position"),
        ({"embedding_norm": False}, "embedding_norm"),
        ({"final_norm": True}, "final_norm"),
        ({"head_transform": False, "head_bias": False}, "head_transform"),
        ({"head_activation": False}, "head_activation"),
        ({"feedforward": Geglu()}, "feedforward"),
        ({"feedforward": Gelu(approximate="tanh")}, "feedforward.approximate"),
        ({"mixer": Softmax(head_width=32, window=16)}, "mixer.window"),
        ({"mixer": Softmax(head_width=32, window=1)}, "mixer.window"),
        ({"position": "alibi"}, "position"),
        ({"feedforward_every": 2}, "feedforward_every"),
    ],
)
def test_what_does_not_fit_is_named(changes, axis, bert):
    """One axis out of place, one obstacle that begins with its name."""
    obstacles = BERT.obstacles(replace(bert, **changes))
    assert [sentence.split(" is ")[0] for sentence in obstacles] == [axis]


def test_a_window_that_no_layer_uses_is_none(bert):
    """The first layer is global, and where it is the only one BERT can hold it."""
    assert BERT.obstacles(replace(bert, shape=Plain(layers=1), mixer=Softmax(head_width=32, window=16))) == []


def test_token_types_change_nothing(bert, make_model):
    """A tool that passes token types to a BERT gets the same answer: their embeddings are zeros."""
    assert not BERT.weights(make_model(bert))["bert.embeddings.token_type_embeddings.weight"].any()
