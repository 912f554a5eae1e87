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

NO_BIASES = {"bias": False, "norm_bias": False, "head_bias": False, "decoder_bias": False}
VARIANTS = {
    "preset": {},
    "untied": {"tied": False},
    "no biases": NO_BIASES,
    "untied without biases": {"tied": False, **NO_BIASES},
    "sinusoidal positions": {"position": "sinusoidal"},
    "scaled sinusoidal positions": {"position": "scaled_sinusoidal"},
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
        ({"head_transform": False}, "head_transform"),
        ({"feedforward": Geglu()}, "feedforward"),
        ({"feedforward": Gelu(approximate="tanh")}, "feedforward.approximate"),
        ({"mixer": Softmax(head_width=32, window=16)}, "mixer.window"),
    ],
)
def test_what_does_not_fit_is_named(changes, axis, bert):
    """One axis out of place, one obstacle that begins with its name."""
    obstacles = BERT.obstacles(replace(bert, **changes))
    assert [sentence.split(" is ")[0] for sentence in obstacles] == [axis]


def test_a_window_that_no_layer_uses_is_none(bert):
    """A window with a period of one leaves every layer global, which BERT can hold."""
    assert BERT.obstacles(replace(bert, mixer=Softmax(head_width=32, window=16, global_every=1))) == []


def test_token_types_change_nothing(bert, make_model):
    """A tool that passes token types to a BERT gets the same answer: their embeddings are zeros."""
    assert not BERT.weights(make_model(bert))["bert.embeddings.token_type_embeddings.weight"].any()
