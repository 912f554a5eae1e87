"""The running mean from a moment on, against torch's and against the places of the walk."""

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_swa_multi_avg_fn

from gpuday.averages.soup import Soup
from gpuday.core.errors import UsageError


def test_taken_at_each_update_it_is_torchs(walk):
    """As `torch.optim.swa_utils` computes it."""
    model = torch.nn.ParameterList(walk.parameters.values())
    reference = AveragedModel(model, multi_avg_fn=get_swa_multi_avg_fn())
    averager = Soup(start=0.0, every=0.0).build(walk.parameters)
    for step in range(10):
        walk.follow(averager, [step / 10])
        reference.update_parameters(model)
    expected = np.concatenate([p.detach().double().numpy().reshape(-1) for p in reference.module.parameters()])
    np.testing.assert_allclose(walk.average(averager), expected, rtol=1e-5, atol=1e-6)


def test_before_the_start_the_weights_are_the_present_ones(walk):
    """To the bit, and with the first snapshot too."""
    averager = Soup(start=0.5).build(walk.parameters)
    for fraction in (0.0, 0.49, 0.5):
        walk.follow(averager, [fraction])
        np.testing.assert_array_equal(walk.average(averager), walk.places[-1])


def test_the_present_weights_count_as_one_snapshot_more(walk):
    """Once: not again where the newest snapshot is of them."""
    averager = Soup(start=0.5, every=0.1).build(walk.parameters)
    walk.follow(averager, [0.4, 0.5, 0.55])
    np.testing.assert_allclose(walk.average(averager), np.mean(walk.places[1:], axis=0), rtol=1e-6, atol=1e-7)
    walk.follow(averager, [0.58, 0.6])
    expected = np.mean([walk.places[1], walk.places[4]], axis=0)
    np.testing.assert_allclose(walk.average(averager), expected, rtol=1e-6, atol=1e-7)
    walk.follow(averager, [0.95])
    expected = np.mean([walk.places[i] for i in (1, 4, 5)], axis=0)
    np.testing.assert_allclose(walk.average(averager), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("knobs", [{"start": -0.1}, {"start": 1.0}, {"every": 2.0}, {"every": 1.0}])
def test_what_is_no_share_is_refused(knobs):
    """Both are shares of the budget, and at all of it there is nothing left to average."""
    with pytest.raises(UsageError):
        Soup(**knobs)
