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
from gpuday.models.feedforward.relu2_glu import Relu2Glu
from gpuday.models.feedforward.swiglu import Swiglu
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.funnel import Funnel
from gpuday.models.shapes.recurrent import Recurrent

SPECIALS = Specials(pad=0, cls=2, sep=3)
BLOCK_BIASES = {"qkv_bias": True, "mixer_bias": True, "feedforward_bias": True}
ALL_BIASES = {**BLOCK_BIASES, "norm_bias": True, "head_bias": True, "decoder_bias": True}
VARIANTS = {
    "preset": {},
    "swiglu": {"feedforward": Swiglu(ratio=1.7)},
    "relu2": {"feedforward": Relu2(ratio=2.0)},
    "relu2 with biases": {"feedforward": Relu2(ratio=2.0), **ALL_BIASES},
    "relu2_glu": {"feedforward": Relu2Glu(ratio=2.0)},
    "gelu": {"feedforward": Gelu(ratio=2.0)},
    "tanh gelu with biases": {"feedforward": Gelu(ratio=2.0, approximate="tanh"), **ALL_BIASES},
    "biases": ALL_BIASES,
    "biases of queries, keys and values alone": {"qkv_bias": True},
    "tied": {"tied": True},
    "tied with biases": {"tied": True, **ALL_BIASES},
    "no head transform": {"head_transform": False},
    "no head transform with biases": {**ALL_BIASES, "head_transform": False, "head_bias": False},
    "a bare matrix as head": {"head_activation": False, "norm_eps": 1e-12},
    "a bare matrix, tied": {"head_activation": False, "tied": True},
    "a bare matrix, tied, with biases": {"head_activation": False, "tied": True, **ALL_BIASES},
    "a bare matrix with biases": {"head_activation": False, **ALL_BIASES},
    "networks in every second block": {"feedforward_every": 2, **ALL_BIASES},
    "no network at all": {"feedforward_every": 0},
    "norms without scale": {"norm_scale": False},
    "norms that only shift": {"norm_scale": False, "norm_bias": True},
    "norms without scale, no head transform": {"norm_scale": False, "norm_bias": True, "head_transform": False},
    "blocks passed once by another shape": {"shape": Recurrent(layers=3, repeats=1)},
    "no windows": {"mixer": Softmax(head_width=32, theta=3000.0)},
    "window of odd width": {"mixer": Softmax(head_width=32, window=7, global_every=3)},
    "window of one": {"mixer": Softmax(head_width=32, window=1, global_every=2, local_theta=300.0)},
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
        ({"placement": "sandwich", "zero_output": False}, "placement"),
        ({"position": "learned"}, "position"),
        ({"embedding_norm": False}, "embedding_norm"),
        ({"first_norm": True}, "first_norm"),
        ({"final_norm": False}, "final_norm"),
        ({"shape": Funnel()}, "shape"),
        ({"mixer": Softmax(head_width=16, qk_norm="rms")}, "mixer.qk_norm"),
        ({"mixer": Softmax(head_width=16, cap=30.0)}, "mixer.cap"),
        ({"logit_cap": 30.0}, "logit_cap"),
        ({"head_transform": False, "norm_eps": 1e-3}, "norm_eps"),
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


@pytest.mark.parametrize(("window", "every"), [(0, 3), (16, 2), (16, 3), (1, 3)])
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


def test_a_bare_matrix_goes_into_a_decoder_of_its_own(modern, make_model):
    """Table times matrix, no longer tied to the embedding."""
    model = make_model(replace(modern, head_activation=False, tied=True))
    expected = model.encoder.embedding.weight @ model.head.dense.weight
    torch.testing.assert_close(MODERNBERT.weights(model)["decoder.weight"], expected.detach(), atol=1e-5, rtol=0)
    assert MODERNBERT.settings(model, SPECIALS)["tie_word_embeddings"] is False


def test_without_its_head_a_model_keeps_its_final_norm(modern, make_model):
    """No weight of head or decoder is left, and the final norm stands where it belongs, whatever the head."""
    model = make_model(replace(modern, head_transform=False, tied=False))
    weights = MODERNBERT.weights(model, head=False)
    assert {name.split(".")[0] for name in weights} == {"embeddings", "layers", "final_norm"}
    assert torch.equal(weights["final_norm.weight"], model.encoder.final_norm.weight)
