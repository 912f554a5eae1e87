"""Adam with L2 decay by hand, and that BERT's is not it."""

import torch

from gpuday.core.clock import Budget
from gpuday.optim.adam import Adam
from gpuday.optim.adamw import Adamw
from gpuday.presets import find


def test_the_decay_is_a_term_of_the_gradient(follow, moments):
    """Five steps by the formula: the decayed weights pass through both moments."""

    def formula(w, g, state, step, rate, decay):
        m, v = moments(g + decay * w, state, step, 0.8, 0.95)
        return w - rate * m / (v.sqrt() + 1e-6)

    follow(Adam(lr=0.05, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.3), formula)


def test_without_gradient_a_weight_moves_by_the_rate_however_large_it_is(make_parameters, give_gradients):
    """What L2 in Adam does, and decoupled decay does not: the whole decay is normalised away."""
    (p,) = make_parameters("embedding")
    before = p.tensor.detach().clone()
    give_gradients([p], 0, scale=0.0)
    Adam(lr=1e-3, eps=1e-18, weight_decay=1e-4).build([p]).step(1.0, lambda: None)
    torch.testing.assert_close(p.tensor.detach(), before - 1e-3 * before.sign())


def test_the_original_bert_decays_apart_from_the_gradient():
    """Its preset takes AdamW: torch's Adam would add the decay to the gradient."""
    optimizer = find("bert")("nano", Budget.parse("10m")).optimizer
    assert isinstance(optimizer, Adamw)
    assert optimizer.weight_decay == 0.01
