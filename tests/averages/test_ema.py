"""The exponential average against closed forms and against torch's own averages."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from gpuday.averages.ema import Ema
from gpuday.core.errors import UsageError


@pytest.mark.parametrize("half_life", [0.05, 0.2, 0.5])
def test_the_weights_of_the_profile_are_differences_of_a_power(walk, half_life):
    """Update s of t counts (s/t)^g - ((s-1)/t)^g, which is the paper's profile summed over the update; in float64."""
    averager = Ema(half_life=half_life).build(walk.parameters)
    exponent = np.log(0.5) / np.log(1 - half_life)
    for t in range(1, 13):
        walk.follow(averager, [0.5])
        edges = (np.arange(t + 1) / t) ** exponent
        expected = np.diff(edges) @ np.array(walk.places)
        np.testing.assert_allclose(walk.average(averager), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [100, 400])
def test_half_of_the_weight_lies_on_the_half_life_whatever_the_number_of_steps(steps):
    """Weights that are 0 until a tenth of the steps is left, and 1 from there on, average to a half."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    averager = Ema(half_life=0.1).build({"p": parameter})
    for step in range(steps):
        with torch.no_grad():
            parameter.fill_(float(step >= 0.9 * steps))
        averager.update(step / steps, nullcontext)
    with averager.swapped():
        assert parameter.item() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("decay", "average"), [(0.5, get_ema_multi_avg_fn(0.5)), (1.0, get_swa_multi_avg_fn())], ids=["bounded", "not"]
)
def test_with_half_of_the_run_as_half_life_it_is_torchs_average(walk, decay, average):
    """With a bound that holds from the second update on, torch's exponential one; without, torch's plain mean."""
    model = torch.nn.ParameterList(walk.parameters.values())
    reference = AveragedModel(model, multi_avg_fn=average)
    averager = Ema(half_life=0.5, decay=decay).build(walk.parameters)
    for _ in range(8):
        walk.follow(averager, [0.0])
        reference.update_parameters(model)
    expected = np.concatenate([p.detach().double().numpy().reshape(-1) for p in reference.module.parameters()])
    np.testing.assert_allclose(walk.average(averager), expected, rtol=1e-5, atol=1e-6)


def test_the_average_decays(walk):
    """What was there long ago weighs nothing: the fault of averages whose decay was computed and dropped."""
    averager = Ema(half_life=0.2, decay=0.5).build(walk.parameters)
    with torch.no_grad():
        for p in walk.parameters.values():
            p.fill_(1e6)
    averager.update(0.0, nullcontext)
    walk.follow(averager, [0.0] * 60)
    assert np.abs(walk.average(averager)).max() < 5


@pytest.mark.parametrize("knobs", [{"half_life": 0.0}, {"half_life": 0.51}, {"decay": 1.1}, {"decay": -0.1}])
def test_what_is_no_share_is_refused(knobs):
    """With the range that is meant."""
    with pytest.raises(UsageError) as caught:
        Ema(**knobs)
    assert "give a number from" in caught.value.fix
