import json
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import save_file

from gpuday.export.modernbert import MODERNBERT, layer_types
from gpuday.export.native import Specials
from gpuday.export.parity import check_model
from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.feedforward.relu2 import Relu2
from gpuday.models.feedforward.swiglu import Swiglu
from gpuday.models.mixers.softmax import Softmax

SPECIALS = Specials(pad=0, cls=2, sep=3)
ALL_BIASES = {"bias": True, "norm_bias": True, "head_bias": True, "decoder_bias": True}
VARIANTS = {
    "preset": {},
    "swiglu": {"feedforward": Swiglu(ratio=1.7)},
    "relu2": {"feedforward": Relu2(ratio=2.0)},
    "relu2 with biases": {"feedforward": Relu2(ratio=2.0), **ALL_BIASES},
    "gelu": {"feedforward": Gelu(ratio=2.0)},
    "tanh gelu with biases": {"feedforward": Gelu(ratio=2.0, approximate="tanh"), **ALL_BIASES},
    "biases": ALL_BIASES,
    "untied": {"tied": False},
    "untied with biases": {"tied": False, **ALL_BIASES},
    "no head transform": {"head_transform": False},
    "no head transform with biases": {"head_transform": False, **ALL_BIASES},
    "no windows": {"mixer": Softmax(head_width=32, theta=3000.0)},
    "window of odd width": {"mixer": Softmax(head_width=32, window=7, global_every=3)},
    "window of one": {"mixer": Softmax(head_width=32, window=1, global_every=2, local_theta=300.0)},
    "all global by period": {"mixer": Softmax(head_width=32, window=8, global_every=1)},
    "another eps, with dropout": {"norm_eps": 1e-3, "dropout": 0.1},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_logits_equal_on_padded_rows(changes, modern, make_model, tmp_path):
    """Whatever fits is expressed exactly: within 1e-4 on logits of scale 4, all weights random."""
    config = replace(modern, **changes)
    assert MODERNBERT.obstacles(config) == []
    model = make_model(config)
    settings = MODERNBERT.config(model, SPECIALS, version=transformers.__version__)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    save_file(MODERNBERT.weights(model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = check_model(model, tmp_path)
    assert found["parity_max_abs"] <= 1e-4
    assert model(torch.arange(48)[None]).std() > 1.0  # logits of a size at which 1e-4 means something


@pytest.mark.parametrize(
    ("changes", "axis"),
    [
        ({"norm": "rmsnorm"}, "norm"),
        ({"placement": "post", "final_norm": True}, "placement"),
        ({"position": "learned"}, "position"),
        ({"embedding_norm": False}, "embedding_norm"),
        ({"first_norm": True}, "first_norm"),
        ({"final_norm": False}, "final_norm"),
    ],
)
def test_what_does_not_fit_is_named(changes, axis, modern):
    """One axis out of place, one obstacle that begins with its name."""
    obstacles = MODERNBERT.obstacles(replace(modern, **changes))
    assert [sentence.split(" is ")[0] for sentence in obstacles] == [axis]


def test_both_major_versions_find_their_keys(modern, make_model):
    """Windows and rotary bases stand in config.json twice: as the fourth version reads them and as the fifth does."""
    settings = MODERNBERT.settings(make_model(modern), SPECIALS)
    fourth = {key: settings[key] for key in ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")}
    assert fourth == {"global_attn_every_n_layers": 2, "global_rope_theta": 50000.0, "local_rope_theta": 7000.0}
    assert settings["reference_compile"] is False and settings["local_attention"] == 16
    assert settings["layer_types"] == ["full_attention", "sliding_attention"] * 2
    thetas = {kind: rope["rope_theta"] for kind, rope in settings["rope_parameters"].items()}
    assert thetas == {"full_attention": 50000.0, "sliding_attention": 7000.0}


@pytest.mark.parametrize(("window", "every"), [(0, 3), (16, 2), (16, 3), (1, 3), (16, 1)])
def test_the_period_says_what_the_layer_types_say(window, every, modern, make_model):
    """The fourth version's rule, a layer is local unless its index divides by the period, gives the fifth's list."""
    config = replace(modern, mixer=Softmax(head_width=16, window=window, global_every=every))
    settings = MODERNBERT.settings(make_model(config), SPECIALS)
    period = settings["global_attn_every_n_layers"]
    expected = ["sliding_attention" if layer % period else "full_attention" for layer in range(4)]
    assert layer_types(config) == expected == settings["layer_types"]


def test_a_plain_network_gets_its_gate(modern, make_model):
    """relu(u)^2 = relu(u) * u: both halves of Wi are U."""
    model = make_model(replace(modern, feedforward=Relu2(ratio=2.0)))
    first, second = MODERNBERT.weights(model)["model.layers.1.mlp.Wi.weight"].chunk(2)
    assert torch.equal(first, second)
    assert torch.equal(first, model.state_dict()["encoder.stack.blocks.1.feedforward.up.weight"])
