"""Repeated blocks: the plain stack with shared weights."""

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.models.encoder import Encoder
from gpuday.models.shapes.plain import Plain
from gpuday.models.shapes.recurrent import Recurrent

IDS = torch.randint(0, 50, (2, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make_encoder(make_config, scatter):
    return lambda shape: scatter(Encoder(make_config(shape=shape), vocab=50, length=16))


def copy_repeated(shared, plain):
    """The shared weights into each block that stands for one of their repeats, and all others."""
    weights = shared.state_dict()
    for layer in range(len(plain.stack.blocks)):
        block = shared.stack.blocks[layer % len(shared.stack.blocks)].state_dict()
        weights |= {f"stack.blocks.{layer}.{name}": weight for name, weight in block.items()}
    plain.load_state_dict(weights)


def test_passed_once_it_is_the_plain_stack(make_encoder):
    """The same names, weights and answers."""
    once, plain = make_encoder(Recurrent(layers=3, repeats=1)), make_encoder(Plain(layers=3))
    assert once.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(once(IDS), plain(IDS))


def test_repeats_are_a_deeper_plain_stack_with_the_same_weights(make_encoder):
    """Two blocks three times: six blocks, of which every second one is the same."""
    shared, plain = make_encoder(Recurrent(layers=2, repeats=3)), make_encoder(Plain(layers=6))
    copy_repeated(shared, plain)
    torch.testing.assert_close(shared(IDS), plain(IDS))
    assert sum(p.numel() for p in shared.stack.parameters()) * 3 == sum(p.numel() for p in plain.stack.parameters())


def test_the_gradient_is_the_sum_over_repeats(make_encoder):
    """Of the same blocks side by side: no repeat is cut off."""
    shared, plain = make_encoder(Recurrent(layers=1, repeats=3)), make_encoder(Plain(layers=3))
    copy_repeated(shared, plain)
    shared(IDS).square().sum().backward()
    plain(IDS).square().sum().backward()
    for name, weight in shared.stack.blocks[0].named_parameters():
        apart = sum(dict(block.named_parameters())[name].grad for block in plain.stack.blocks)
        assert (weight.grad - apart).norm() < 1e-4 * apart.norm(), name


@pytest.mark.parametrize("changes", [{"layers": 0}, {"repeats": 0}, {"repeats": 1001}])
def test_numbers_out_of_range_are_refused(changes):
    """With the key."""
    with pytest.raises(UsageError) as caught:
        Recurrent(**changes)
    assert caught.value.where == f"model.shape.{next(iter(changes))}"
