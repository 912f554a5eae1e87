"""SGD by hand."""

import pytest

from gpuday.core.errors import UsageError
from gpuday.optim.sgd import Sgd


@pytest.mark.parametrize("nesterov", [True, False])
def test_momentum_adds_gradients_whole_and_looks_ahead(follow, nesterov):
    """b = mu b + g with the decay in g; the step is along g + mu b, or b."""

    def formula(w, g, state, step, rate, decay):
        g = g + decay * w
        state["b"] = 0.8 * state.get("b", 0.0) + g
        return w - rate * (g + 0.8 * state["b"] if nesterov else state["b"])

    follow(Sgd(lr=0.05, momentum=0.8, nesterov=nesterov, weight_decay=0.3), formula)


def test_without_momentum_it_is_gradient_descent_and_has_no_state(follow, make_parameters, give_gradients):
    """Nothing is kept, saved or asked for."""
    plain = Sgd(lr=0.05, momentum=0.0, nesterov=False, weight_decay=0.3)
    follow(plain, lambda w, g, state, step, rate, decay: w - rate * (g + decay * w))
    parameters = make_parameters()
    stepper = plain.build(parameters)
    give_gradients(parameters, 0)
    stepper.step(1.0, lambda: None)
    assert stepper.state() == {}
    stepper.load({})


def test_looking_ahead_along_no_momentum_is_refused():
    """It would be an option that does nothing."""
    with pytest.raises(UsageError, match="nesterov = false"):
        Sgd(momentum=0.0)
