"""The plain and the gated network, and their activations, by formula."""

import math

import pytest
import torch

from gpuday.models.feedforward._networks import ACTIVATIONS, Gated, Plain

X = torch.linspace(-3.0, 3.0, 25, dtype=torch.float64)
FORMULAS = {
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / 2**0.5)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + math.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "relu2": lambda x: max(0.0, x) ** 2,
}


def test_every_activation_has_its_formula_here():
    """None goes untested."""
    assert set(ACTIVATIONS) == set(FORMULAS)


@pytest.mark.parametrize("name", list(FORMULAS))
def test_an_activation_equals_its_formula(name):
    """Point by point in double precision."""
    assert ACTIVATIONS[name](X).tolist() == pytest.approx([FORMULAS[name](x) for x in X.tolist()], abs=1e-12)


def test_the_plain_network_by_hand():
    """down(relu(up x)^2) for up = [[1], [-1]], down = [[10, 1]] and x = -2, 3."""
    network = Plain(1, 2, "relu2", bias=True)
    with torch.no_grad():
        network.up.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        network.up.bias.copy_(torch.tensor([0.5, 0.0]))
        network.down.weight.copy_(torch.tensor([[10.0, 1.0]]))
        network.down.bias.fill_(0.25)
    assert network(torch.tensor([[-2.0], [3.0]])).flatten().tolist() == [4.25, 122.75]


def test_the_gated_network_activates_its_first_half():
    """[a, b] = up x = [2x, 5x], so that relu(a)^2 * b is 20 x^3 for positive x and 0 for negative."""
    network = Gated(1, 1, "relu2", bias=False)
    with torch.no_grad():
        network.up.weight.copy_(torch.tensor([[2.0], [5.0]]))
        network.down.weight.fill_(1.0)
    assert network(torch.tensor([[1.0], [2.0], [-1.0]])).flatten().tolist() == [20.0, 160.0, 0.0]


@pytest.mark.parametrize(("network", "fused"), [(Plain, 1), (Gated, 2)])
def test_the_matrices_say_what_optimizer_and_initialisation_ask(network, fused):
    """The gated one holds two matrices in `up`; `down` writes into the residual stream."""
    made = network(8, 12, "gelu", bias=False)
    assert (made.up.fused, made.up.is_output, tuple(made.up.weight.shape)) == (fused, False, (12 * fused, 8))
    assert (made.down.fused, made.down.is_output, tuple(made.down.weight.shape)) == (1, True, (8, 12))
