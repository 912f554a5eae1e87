"""What holds for a feed-forward network of any kind; a new file in the folder is enrolled by being there."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gpuday.core import parts
from gpuday.models.feedforward import FeedForward

every_feedforward = pytest.mark.parametrize("name", parts.names(FeedForward))


@every_feedforward
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_keeps_shape_and_dtype(name, dtype, scatter):
    """[B, L, D] to [B, L, D]."""
    network = scatter(parts.find(FeedForward, name)().build(32, bias=True))
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert (network(x).shape, network(x).dtype) == (x.shape, dtype)


@every_feedforward
def test_it_looks_at_one_position_at_a_time(name, scatter):
    """A change at one position shows there and nowhere else."""
    network = scatter(parts.find(FeedForward, name)().build(32, bias=True))
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[1, 2] += 1.0
    moved = ((network(changed) - network(x)).abs() > 1e-5).any(-1)
    assert moved.nonzero().tolist() == [[1, 2]]


@every_feedforward
def test_no_bias_means_no_vector(name):
    """The config's `bias` reaches every layer of the network."""
    config = parts.find(FeedForward, name)()
    assert [p.dim() for p in config.build(32, bias=False).parameters() if p.dim() < 2] == []
    assert [p.dim() for p in config.build(32, bias=True).parameters() if p.dim() < 2] != []


@every_feedforward
def test_the_flops_formula_is_what_torch_counts(name):
    """Every matrix product of the forward pass, as torch's own counter sees them."""
    config = parts.find(FeedForward, name)()
    network = config.build(32, bias=False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(2, 5, 32))
    assert counter.get_total_flops() == config.flops_per_token(32) * 2 * 5
