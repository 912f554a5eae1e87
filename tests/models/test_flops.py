"""The FLOPs formula against torch's own counter of matrix products, and against numbers worked out by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.flops import forward_per_token, training_per_token
from gpuday.models.heads import MaskedLM
from gpuday.models.shapes.plain import Plain

VOCAB, LENGTH, ROWS = 100, 16, 3
CONFIGS = {
    "gated, with head": {},
    "no head": {"head_transform": False},
    "plain, post-norm, biases, untied": {
        "feedforward": Gelu(),
        "placement": "post",
        "position": "learned",
        "bias": True,
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
    config = make_config(width=2, shape=Plain(layers=1))
    layer = 2 * (4 * 4 + 2 * 8 * 2 + 3 * 2 * 4)
    head = 2 * (4 + 2 * 10)
    assert forward_per_token(config, vocab=10, length=8, predicted_share=0.0) == layer
    assert forward_per_token(config, vocab=10, length=8, predicted_share=0.25) == layer + head / 4
    assert training_per_token(config, vocab=10, length=8, predicted_share=0.25) == 3 * (layer + head / 4)
