"""The FLOPs formula against torch's own counter of matrix products, and against numbers worked out by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gpuday.core.clock import Budget
from gpuday.models.encoder import EncoderConfig
from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.flops import forward_per_token, parameters, training_per_token
from gpuday.models.heads import MaskedLM
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain
from gpuday.models.shapes.recurrent import Recurrent
from gpuday.presets.crammed import crammed

VOCAB, LENGTH, ROWS = 100, 16, 3
CONFIGS = {
    "gated, with head": {},
    "no head": {"head_transform": False},
    "plain, post-norm, biases, untied": {
        "feedforward": Gelu(),
        "placement": "post",
        "position": "learned",
        "qkv_bias": True,
        "mixer_bias": True,
        "feedforward_bias": True,
        "tied": False,
    },
    "three layers": {"shape": Plain(layers=3)},
}
every_config = pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS.keys())


@pytest.fixture
def make_model(make_config, scatter):
    return lambda **changes: scatter(MaskedLM(make_config(**changes), vocab=VOCAB, length=LENGTH))


@every_config
@pytest.mark.parametrize("predicted", [LENGTH, 4])
def test_the_forward_formula_is_what_torch_counts(changes, predicted, make_model):
    """With the head on all positions and on a quarter of them: equal to the last product."""
    model = make_model(**changes)
    positions = torch.arange(ROWS * predicted)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(ROWS, LENGTH, dtype=torch.int64), positions)
    share = predicted / LENGTH
    expected = ROWS * LENGTH * forward_per_token(model.config, vocab=VOCAB, length=LENGTH, predicted_share=share)
    assert counter.get_total_flops() == expected


@every_config
def test_training_is_three_forward_passes(changes, make_model):
    """What torch counts over forward and backward is the training formula: no factor is missing or extra."""
    model = make_model(**changes)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(ROWS, LENGTH, dtype=torch.int64)).sum().backward()
    per_token = training_per_token(model.config, vocab=VOCAB, length=LENGTH, predicted_share=1.0)
    assert counter.get_total_flops() == ROWS * LENGTH * per_token


def test_a_tiny_model_by_hand(make_config):
    """Width 2, one layer: attention 4 matrices of 4 and 2 products with 8 keys, network 3 of 8, head 4 + 2 * 10."""
    config = make_config(width=2, shape=Plain(layers=1), mixer=Softmax(head_width=2))
    layer = 2 * (4 * 4 + 2 * 8 * 2 + 3 * 2 * 4)
    head = 2 * (4 + 2 * 10)
    assert forward_per_token(config, vocab=10, length=8, predicted_share=0.0) == layer
    assert forward_per_token(config, vocab=10, length=8, predicted_share=0.25) == layer + head / 4
    assert training_per_token(config, vocab=10, length=8, predicted_share=0.25) == 3 * (layer + head / 4)


def test_repeats_cost_what_they_compute_and_store_nothing(make_config):
    """Two blocks three times: the FLOPs of six, the parameters of two."""
    shared, six, two = (
        make_config(shape=s) for s in (Recurrent(layers=2, repeats=3), Plain(layers=6), Plain(layers=2))
    )
    ours = {"vocab": 100, "length": 16}
    assert forward_per_token(shared, **ours, predicted_share=0.3) == forward_per_token(six, **ours, predicted_share=0.3)
    assert parameters(shared, **ours) == parameters(two, **ours)


def test_the_parameters_of_published_models():
    """ALBERT-base's 11,683,584 without token types, pooler and the bias of the projection; the crammed model whole."""
    albert = EncoderConfig(
        width=768,
        embedding_width=128,
        shape=Recurrent(layers=1, repeats=12),
        feedforward=Gelu(ratio=4.0),
        norm_bias=True,
        placement="post",
        position="learned",
        final_norm=False,
        qkv_bias=True,
        mixer_bias=True,
        feedforward_bias=True,
        head_transform=False,
    )
    types, pooler, bias, way_back = 2 * 128, 768 * 768 + 768, 768, 768 * 128
    assert parameters(albert, vocab=30000, length=512) == 11_683_584 - types - pooler - bias + way_back
    model = crammed("base", Budget.parse("24h")).model
    assert parameters(model, vocab=32768, length=128) == 119_589_889


def test_factorised_tables_by_hand(make_config):
    """A table of 100 x 4, 4 x 32 into the model and back: 2 * 4 * 32 a token, and for each predicted one 2 * 4 * (32 + 100)."""
    plain, factorised = make_config(head_transform=False), make_config(head_transform=False, embedding_width=4)
    ours = {"vocab": 100, "length": 16}
    none, all_ = ({"predicted_share": share, **ours} for share in (0.0, 1.0))
    assert forward_per_token(factorised, **none) == forward_per_token(plain, **none) + 2 * 4 * 32
    head = forward_per_token(factorised, **all_) - forward_per_token(factorised, **none)
    assert head == 2 * 4 * 32 + 2 * 4 * 100
    assert parameters(factorised, **ours) - parameters(plain, **ours) == 100 * (4 - 32) + 2 * 4 * 32 + (4 - 32)
