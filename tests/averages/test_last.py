"""No average: nothing is done, held or saved."""

import numpy as np

from gpuday.averages.last import Last


def nobody_asks():
    """An evaluation that is not entered."""
    raise AssertionError("there is nothing to average")


def test_it_is_the_last_weights_and_costs_nothing(walk):
    """No state, so that checkpoints without any are its own; and the optimizer's evaluation weights are not asked for."""
    averager = Last().build(walk.parameters)
    walk.step()
    averager.update(0.5, nobody_asks)
    np.testing.assert_array_equal(walk.average(averager), walk.places[-1])
    assert averager.state() == {}
    averager.load({})
