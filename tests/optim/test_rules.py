"""The stepper that moves one parameter after the other."""

import pytest
import torch

from gpuday.optim._rules import Rule, RuleStepper, adam, zeros


def test_a_rule_gets_rate_and_decay_as_they_are_at_the_step(make_parameters, give_gradients):
    """Peaks times multiplier and share; no decay for vectors; nothing for a parameter without gradient."""
    parameters, seen = make_parameters(), {}
    rule = Rule(start=lambda p: {}, move=lambda p, gradient, state, rate, decay: seen.update({p.name: (rate, decay)}))
    give_gradients(parameters, 0)
    parameters[1].tensor.grad = None
    RuleStepper(parameters, rule, lr=0.5, weight_decay=0.25).step(0.5, lambda: None, decay=0.5)
    expected = {p.name: (0.25, 0.0 if p.role == "vector" else 0.125) for p in parameters}
    del expected[parameters[1].name]
    assert seen == expected


def test_state_is_there_before_the_first_step(make_parameters):
    """So that loading knows what belongs in it, on whichever device it lies."""
    parameters = make_parameters("vector")
    stepper = RuleStepper(parameters, Rule(start=lambda p: {"a": zeros(p)}, move=print), lr=1.0, weight_decay=0.0)
    assert set(stepper.state()) == {f"{p.name}/a" for p in parameters}
    own = stepper.state()["positions.scale/a"]
    stepper.load({name: tensor + 3.0 for name, tensor in stepper.state().items()})
    assert own.item() == 3.0


def test_adams_direction_by_hand():
    """Gradients 0.5 and -1: bias corrections and all, the gradient untouched."""
    state = {"exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1), "step": torch.zeros(())}
    m = v = 0.0
    for t, g in ((1, 0.5), (2, -1.0)):
        gradient = torch.tensor([g])
        found = adam(gradient, state, beta1=0.9, beta2=0.98, eps=1e-3)
        m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g**2
        assert found.item() == pytest.approx((m / (1 - 0.9**t)) / ((v / (1 - 0.98**t)) ** 0.5 + 1e-3), rel=1e-5)
        assert gradient.item() == g
