"""AdamW against torch's own and against the formula."""

import pytest
import torch

from gpuday.optim.adamw import Adamw


def nothing():
    """A closure that is not asked."""
    raise AssertionError("AdamW takes the gradients as they stand")


def test_adamw_equals_torchs_with_the_same_groups(make_parameters, give_gradients):
    """Ten steps at changing rates, decay on matrices and tables only, in torch's plain implementation."""
    ours, theirs = make_parameters(), make_parameters()
    stepper = Adamw(lr=0.01, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1).build(ours)
    groups = [
        {"params": [p.tensor for p in theirs if p.role != "vector"], "weight_decay": 0.1},
        {"params": [p.tensor for p in theirs if p.role == "vector"], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.95), eps=1e-6, foreach=False, fused=False)
    for step in range(10):
        multiplier = (step + 1) / 10
        for parameters in (ours, theirs):
            give_gradients(parameters, step)
        stepper.step(multiplier, nothing)
        for group in reference.param_groups:
            group["lr"] = 0.01 * multiplier
        reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.tensor, other.tensor, atol=1e-6, rtol=1e-5)


def test_two_steps_by_hand(make_parameters):
    """A scalar of 1 with gradients 0.5 and -1, in double precision, bias corrections and all."""
    (p,) = make_parameters("embedding")
    with torch.no_grad():
        p.tensor.fill_(1.0)
    stepper = Adamw(lr=0.1, beta1=0.9, beta2=0.98, eps=1e-12, weight_decay=0.5).build([p])
    x, m, v = 1.0, 0.0, 0.0
    for t, gradient in ((1, 0.5), (2, -1.0)):
        p.tensor.grad = torch.full_like(p.tensor, gradient)
        stepper.step(1.0, nothing)
        m, v = 0.9 * m + 0.1 * gradient, 0.98 * v + 0.02 * gradient**2
        x = x * (1 - 0.1 * 0.5) - 0.1 * (m / (1 - 0.9**t)) / ((v / (1 - 0.98**t)) ** 0.5 + 1e-12)
        assert p.tensor.unique().item() == pytest.approx(x, rel=1e-5)


def test_the_decay_is_decoupled_from_the_gradient(make_parameters, give_gradients):
    """With no gradient a matrix shrinks by rate times decay: an L2 term in the gradient would move it by the rate."""
    parameters = make_parameters("matrix")
    before = [p.tensor.detach().clone() for p in parameters]
    give_gradients(parameters, 0, scale=0.0)
    Adamw(lr=0.1, weight_decay=0.2).build(parameters).step(0.5, nothing)
    for p, was in zip(parameters, before, strict=True):
        torch.testing.assert_close(p.tensor, was * (1 - 0.1 * 0.5 * 0.2))
