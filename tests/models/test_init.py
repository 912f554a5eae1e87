"""Initial weights: from streams by name, so that neither order nor neighbours nor global state matter."""

import pytest
import torch

from gpuday.core.seeds import stream_seed
from gpuday.models.heads import MaskedLM
from gpuday.models.init import initialise
from gpuday.models.shapes.plain import Plain
from gpuday.models.shapes.recurrent import Recurrent
from gpuday.models.visible import Visible

OUTPUTS = {f"encoder.stack.blocks.{i}.{name}.weight" for i in (0, 1) for name in ("mixer.out", "feedforward.down")}

BIASES = ("qkv_bias", "mixer_bias", "feedforward_bias", "norm_bias", "head_bias", "decoder_bias")


@pytest.fixture
def make_weights(make_config):
    """Named weights of a freshly initialised model; `before` may rearrange it first."""

    def make(seed=0, before=lambda model: None, **changes):
        config = make_config(**changes)
        model = MaskedLM(config, vocab=200, length=16)
        before(model)
        initialise(model, config, seed)
        return dict(model.named_parameters())

    return make


def reverse_modules(model):
    """As if every module had been registered in the opposite order."""
    for module in model.modules():
        for name in reversed(list(module._modules)[:-1]):
            module._modules[name] = module._modules.pop(name)


def test_a_matrix_is_a_normal_sample_from_the_stream_of_its_name(make_weights):
    """Exactly: deviation times a standard sample seeded by (seed, `init/<name>`)."""
    name = "encoder.stack.blocks.1.mixer.qkv.weight"
    generator = torch.Generator().manual_seed(stream_seed(3, f"init/{name}"))
    expected = 0.05 * torch.randn(96, 32, generator=generator)
    assert torch.equal(make_weights(3, init_std=0.05)[name], expected)


def test_every_matrix_has_the_configs_deviation(make_weights):
    """Mean 0 and deviation 0.02 within five standard errors, tables and head included, row 0 like any other."""
    weights = {name: p for name, p in make_weights(position="learned", tied=False).items() if p.dim() >= 2}
    assert {"encoder.embedding.weight", "encoder.positions.table", "head.decoder"} < set(weights)
    for name, weight in weights.items():
        count = weight.numel()
        assert abs(weight.mean().item()) < 5 * 0.02 / count**0.5, name
        assert abs(weight.std().item() / 0.02 - 1) < 5 / (2 * count) ** 0.5, name
    assert weights["encoder.embedding.weight"][0].std().item() == pytest.approx(0.02, rel=0.6)


def test_vectors_keep_ones_and_zeros(make_weights):
    """Norms scale by one, biases add nothing, the sinusoids' scale keeps D^-1/2."""
    weights = make_weights(position="scaled_sinusoidal", **dict.fromkeys(BIASES, True))
    vectors = {name: p for name, p in weights.items() if p.dim() < 2}
    assert vectors.pop("encoder.positions.scale").item() == pytest.approx(32**-0.5)
    for name, vector in vectors.items():
        assert (vector == (1.0 if name.endswith("norm.weight") else 0.0)).all(), name


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(make_weights):
    """The global generator is neither read nor moved; another seed gives other weights."""
    torch.manual_seed(1)
    first = make_weights(seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again, other = make_weights(seed=5), make_weights(seed=6)
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in first.items():
        assert torch.equal(weight, again[name]), name
        assert weight.dim() < 2 or not torch.equal(weight, other[name]), name


def test_weights_do_not_depend_on_the_order_of_modules(make_weights):
    """A model whose modules were built in the opposite order starts from the same weights."""
    plain, reversed_ = make_weights(), make_weights(before=reverse_modules)
    assert list(plain) != list(reversed_)
    assert plain.keys() == reversed_.keys()
    assert all(torch.equal(weight, reversed_[name]) for name, weight in plain.items())


def test_weights_do_not_depend_on_other_modules(make_weights):
    """More layers and an untied head leave the weights of what was there before as they were."""
    small, large = make_weights(), make_weights(shape=Plain(layers=4), tied=False)
    assert len(large) > len(small)
    assert all(torch.equal(weight, large[name]) for name, weight in small.items())


def test_no_two_matrices_are_alike(make_weights):
    """Blocks of one shape draw from streams of their own."""
    weights = [p.flatten()[:64] for p in make_weights().values() if p.dim() >= 2]
    assert len({tuple(w.tolist()) for w in weights}) == len(weights)


def test_zero_output_zeroes_exactly_the_matrices_that_write_into_the_residual_stream(make_weights):
    """Attention's and the network's last matrix of every block; all others are as without it."""
    plain, zeroed = make_weights(), make_weights(zero_output=True)
    assert {name for name, weight in zeroed.items() if not weight.any()} == OUTPUTS
    assert all(torch.equal(weight, plain[name]) for name, weight in zeroed.items() if name not in OUTPUTS)
    assert all(plain[name].any() for name in OUTPUTS)


def test_with_zero_outputs_every_block_starts_as_the_identity(make_config):
    """The stack hands on what it is given."""
    config = make_config(zero_output=True)
    model = MaskedLM(config, vocab=50, length=16)
    initialise(model, config, 0)
    x = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.encoder.stack(x, Visible()), x)


DEVIATIONS = {  # width 32 and 8 blocks, of names that stand for their kind: table, inputs, outputs
    "normal": (0.02, 0.02, 0.02),
    "small": (0.1118034, 0.1118034, 0.1118034),  # sqrt(2 / 160)
    "megatron": (0.02, 0.02, 0.005),  # 0.02 / sqrt(16)
    "wang": (0.1118034, 0.1118034, 0.0441942),  # 2 / (8 * 5.656854)
}


@pytest.mark.parametrize("init", list(DEVIATIONS))
def test_deviations_of_the_papers_by_hand(init, make_weights):
    """Of the table, of what reads the residual stream and of what writes into it, within five standard errors."""
    weights = make_weights(init=init, shape=Plain(layers=8))
    names = ("encoder.embedding.weight", *(f"encoder.stack.blocks.3.mixer.{name}.weight" for name in ("qkv", "out")))
    for name, expected in zip(names, DEVIATIONS[init], strict=True):
        assert abs(weights[name].std().item() / expected - 1) < 5 / (2 * weights[name].numel()) ** 0.5, name
    down = weights["encoder.stack.blocks.3.feedforward.down.weight"].std().item()
    assert down == pytest.approx(DEVIATIONS[init][2], rel=0.1)


def test_deepnorms_deviations_by_hand(make_weights):
    """Two blocks: b = 16^(-1/4) = 1/2. Queries and keys are Xavier's, values, outputs and the network half of that."""
    weights = make_weights(init="deepnorm")
    xavier = (2 / 64) ** 0.5
    query, key, value = weights["encoder.stack.blocks.1.mixer.qkv.weight"].chunk(3)
    found = {
        "query": query.std() / xavier,
        "key": key.std() / xavier,
        "value": value.std() / xavier,
        "out": weights["encoder.stack.blocks.1.mixer.out.weight"].std() / xavier,
        "up": weights["encoder.stack.blocks.1.feedforward.up.weight"].std() / (2 / 96) ** 0.5,  # 2 x [64, 32]
        "down": weights["encoder.stack.blocks.1.feedforward.down.weight"].std() / (2 / 96) ** 0.5,
        "table": weights["encoder.embedding.weight"].std() / 0.02,
        "head": weights["head.dense.weight"].std() / 0.02,
    }
    expected = {"query": 1, "key": 1, "value": 0.5, "out": 0.5, "up": 0.5, "down": 0.5, "table": 1, "head": 1}
    assert {name: ratio.item() for name, ratio in found.items()} == {
        n: pytest.approx(e, rel=0.12) for n, e in expected.items()
    }


@pytest.mark.parametrize("init", ["small", "megatron", "wang", "deepnorm"])
def test_every_init_is_the_normal_one_rescaled(init, make_weights):
    """The same samples, so that comparisons of inits start from the same directions; zero outputs win over all."""
    plain, other = make_weights(), make_weights(init=init)
    for name, weight in plain.items():
        a, b = (w.flatten()[:32] / w.flatten()[:32].norm() for w in (weight, other[name]))
        torch.testing.assert_close(a, b, msg=name)
    zeroed = make_weights(init=init, zero_output=True)
    assert {name for name, weight in zeroed.items() if not weight.any()} == OUTPUTS


def test_repeated_blocks_count_as_often_as_they_are_passed(make_weights):
    """Depth is what a token passes through: 2 blocks 4 times are 8."""
    shared = make_weights(init="megatron", shape=Recurrent(layers=2, repeats=4))
    apart = make_weights(init="megatron", shape=Plain(layers=8))
    name = "encoder.stack.blocks.1.mixer.out.weight"
    assert torch.equal(shared[name], apart[name])
