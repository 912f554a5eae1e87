"""One block: every placement written out by hand, and blocks that are left out."""

import pytest
import torch
import torch.nn.functional as F

from gpuday.core.errors import UsageError
from gpuday.models.block import Block, LayerDrop
from gpuday.models.encoder import Encoder
from gpuday.models.init import initialise
from gpuday.models.shapes.plain import Plain
from gpuday.models.shapes.recurrent import Recurrent
from gpuday.models.visible import Visible

LENGTH, WIDTH = 16, 32


@pytest.fixture
def x():
    return torch.randn(3, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make_block(make_config, scatter):
    return lambda layer=1, **changes: scatter(Block(make_config(norm_bias=True, **changes), layer, LENGTH))


def normed(x, norm):
    return F.layer_norm(x, (WIDTH,), norm.weight, norm.bias, 1e-5)


def parts_of(block):
    """(mixer, network) as functions of x alone."""
    return lambda x: block.mixer(x, Visible()), block.feedforward


def test_pre_norm_norms_what_goes_into_a_layer(x, make_block):
    """x + f(n(x)), twice."""
    block = make_block(placement="pre")
    mix, network = parts_of(block)
    y = x + mix(normed(x, block.mixer_norm))
    torch.testing.assert_close(block(x, Visible()), y + network(normed(y, block.feedforward_norm)))


def test_post_norm_norms_the_sum(x, make_block):
    """n(x + f(x)), twice."""
    block = make_block(placement="post")
    mix, network = parts_of(block)
    y = normed(x + mix(x), block.mixer_norm)
    torch.testing.assert_close(block(x, Visible()), normed(y + network(y), block.feedforward_norm))


def test_a_sandwich_norms_both_sides_of_a_layer(x, make_block):
    """x + m(f(n(x))), twice: four norms, and none on the residual stream."""
    block = make_block(placement="sandwich")
    mix, network = parts_of(block)
    y = x + normed(mix(normed(x, block.mixer_norm)), block.mixer_end_norm)
    expected = y + normed(network(normed(y, block.feedforward_norm)), block.feedforward_end_norm)
    torch.testing.assert_close(block(x, Visible()), expected)


def test_deepnorm_of_eight_blocks_doubles_the_residual(x, make_block):
    """n(2 x + f(x)), twice: (2 * 8)^(1/4) = 2."""
    block = make_block(placement="deepnorm", shape=Plain(layers=8))
    mix, network = parts_of(block)
    y = normed(2.0 * x + mix(x), block.mixer_norm)
    torch.testing.assert_close(block(x, Visible()), normed(2.0 * y + network(y), block.feedforward_norm))


@pytest.mark.parametrize("layers", [2, 18, 100])
def test_deepnorms_update_is_bounded_by_a_half_at_any_depth(layers, make_config):
    """The paper's bound for an encoder, 2 N (v^2 + w^2) / (2 a^2) with value and output gains v = w = b, does not grow."""
    config = make_config(placement="deepnorm", init="deepnorm", shape=Plain(layers=layers))
    block = Block(config, 0, LENGTH)
    initialise(block, config, 0)
    output = block.mixer.out.weight.std().item() / (2.0 / (WIDTH + WIDTH)) ** 0.5
    assert 2 * layers * output**2 / block.alpha**2 == pytest.approx(0.5, rel=0.1)


def test_a_parallel_block_adds_mixer_and_network_of_one_norm(x, make_block):
    """x + f(n(x)) + g(n(x)); the sequential block with the same weights answers otherwise."""
    block = make_block(block="parallel")
    mix, network = parts_of(block)
    y = normed(x, block.mixer_norm)
    out = block(x, Visible())
    torch.testing.assert_close(out, x + mix(y) + network(y))
    assert {name for name, _ in block.named_parameters() if "norm" in name} == {"mixer_norm.weight", "mixer_norm.bias"}
    sequential = make_block()
    sequential.load_state_dict(block.state_dict(), strict=False)
    assert (sequential(x, Visible()) - out).abs().max() > 0.1


@pytest.mark.parametrize(
    ("every", "expected"), [(1, "111111"), (2, "010101"), (3, "001001"), (6, "000001"), (0, "0" * 6)]
)
def test_a_network_stands_in_every_nth_block(every, expected, make_config):
    """In the last of each group of n, so that its groups begin with a mixer; with 0 nowhere."""
    config = make_config(feedforward_every=every, shape=Plain(layers=6))
    blocks = [Block(config, layer, LENGTH) for layer in range(6)]
    assert "".join(str(int(block.feedforward is not None)) for block in blocks) == expected
    assert all(("feedforward" in str(list(block.state_dict()))) == (block.feedforward is not None) for block in blocks)


@pytest.mark.parametrize("block", ["sequential", "parallel"])
def test_a_block_without_network_is_its_mixer(block, x, make_block):
    """x + f(n(x)) and nothing more."""
    made = make_block(layer=0, feedforward_every=2, block=block)
    mix, _ = parts_of(made)
    torch.testing.assert_close(made(x, Visible()), x + mix(normed(x, made.mixer_norm)))


def test_layer_drop_leaves_out_whole_blocks_of_single_rows(x, make_block):
    """In training a row passes through unchanged, or gets its updates times 1 / (1 - p); mixer and network together."""
    block = make_block(layer_drop=0.5).train()  # the last of two: 0.5
    mix, network = parts_of(block)
    y = x + 2.0 * mix(normed(x, block.mixer_norm))
    kept = y + 2.0 * network(normed(y, block.feedforward_norm))
    torch.manual_seed(0)
    seen = set()
    for _ in range(10):
        for row, out in enumerate(block(x, Visible())):
            dropped = torch.equal(out, x[row])
            assert dropped or torch.allclose(out, kept[row], atol=1e-4)
            seen.add(dropped)
    assert seen == {True, False}


def test_layer_drop_is_off_in_evaluation_and_repeatable_in_training(x, make_block):
    """As dropout: the same seed gives the same rows."""
    block, without = make_block(layer_drop=0.5), make_block()
    assert torch.equal(block(x, Visible()), without(x, Visible()))
    block.train()
    torch.manual_seed(3)
    first = block(x, Visible())
    torch.manual_seed(3)
    assert torch.equal(block(x, Visible()), first)


def test_the_factor_of_layer_drop_keeps_the_mean(x):
    """0 with the given probability, else such that the mean is 1, within four standard errors."""
    drop = LayerDrop(0.2).train()
    torch.manual_seed(0)
    factor = drop(torch.zeros(20000, 1, 1))
    assert sorted(set(factor.flatten().tolist())) == pytest.approx([0.0, 1.25])
    assert factor.mean().item() == pytest.approx(1.0, abs=4 * (0.25 / 20000) ** 0.5)
    assert drop.eval()(x) is None


def test_layer_drop_rises_linearly_to_the_last_block(make_config):
    """Block l of L is left out with l / L of the probability, as in the paper."""
    config = make_config(layer_drop=0.4, shape=Plain(layers=4))
    assert [Block(config, layer, LENGTH).layer_drop.dropout for layer in range(4)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4]
    )


@pytest.mark.parametrize(("layers", "repeats"), [(1, 4), (2, 2)])
def test_layer_drop_rises_over_passages(layers, repeats, make_config, monkeypatch):
    """Blocks that are passed again and again drop as much as those of a plain stack of that depth: 0.1, 0.2, 0.3, 0.4."""
    config = make_config(layer_drop=0.4, shape=Recurrent(layers=layers, repeats=repeats))
    encoder, rows = Encoder(config, vocab=8, length=8).train(), torch.tensor([0.05, 0.15, 0.25, 0.35]).view(4, 1, 1)
    factors, forward = [], LayerDrop.forward
    monkeypatch.setattr(torch, "rand", lambda *_, **__: rows)  # a row is dropped where this is below the probability
    monkeypatch.setattr(LayerDrop, "forward", lambda *args: factors.append(forward(*args)) or factors[-1])
    encoder(torch.zeros(4, 8, dtype=torch.int64))
    assert [int((factor == 0.0).sum()) for factor in factors] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"block": "parallel", "placement": "post"}, "model.block"),
        ({"block": "parallel", "placement": "sandwich"}, "model.block"),
        ({"block": "parallel", "placement": "deepnorm"}, "model.block"),
        ({"block": "parallel", "feedforward_every": 0}, "model.block"),
        ({"placement": "sandwich", "zero_output": True}, "model.zero_output"),
        ({"layer_drop": 1.0}, "model.layer_drop"),
        ({"embedding_width": 7}, "model.embedding_width"),
        ({"feedforward_every": -1}, "model.feedforward_every"),
        ({"feedforward_every": 3}, "model.feedforward_every"),
        ({"skip": "unet", "shape": Plain(layers=1)}, "model.skip"),
        ({"head_bias": True, "head_transform": False}, "model.head_bias"),
        ({"logit_cap": -1.0}, "model.logit_cap"),
    ],
)
def test_what_contradicts_itself_is_refused(changes, where, make_config):
    """With the key to change and the fix."""
    with pytest.raises(UsageError) as caught:
        make_config(**changes)
    assert caught.value.where == where
    assert caught.value.fix
