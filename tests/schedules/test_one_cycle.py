"""Up, down, and further down."""

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.schedules.one_cycle import OneCycle


def test_one_cycle_is_pytorchs_of_three_phases():
    """Their `OneCycleLR` with straight lines; it counts its phases' ends one step early, which its share makes good."""
    steps, start = 101, 0.1
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=1.0,
        total_steps=steps,
        pct_start=(0.45 * (steps - 1) + 1) / steps,
        div_factor=1 / start,
        final_div_factor=1e12,
        three_phase=True,
        anneal_strategy="linear",
        cycle_momentum=False,
    )
    rates = []
    for _ in range(steps):
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        if len(rates) < steps:
            theirs.step()
    assert [OneCycle(start=start)(i / 100) for i in range(101)] == pytest.approx(rates, abs=1e-9)


def test_a_peak_in_the_middle_leaves_no_time_after_the_cycle():
    """Straight up, straight down, and no division by what is left."""
    values = [OneCycle(start=0.0, peak=0.5)(f) for f in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)]
    assert values == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0, 0.0])


@pytest.mark.parametrize("knobs", [{"start": -0.1}, {"start": 1.1}, {"peak": 0.0}, {"peak": 0.6}])
def test_a_cycle_that_does_not_fit_is_refused(knobs):
    """A peak past the middle could not come down again."""
    with pytest.raises(UsageError, match=f"{next(iter(knobs))} is"):
        OneCycle(**knobs)


def test_a_cycle_that_takes_all_of_the_time_ends_at_its_start():
    """At the deadline too; another end is refused, unless a cool-down leads to it."""
    assert [OneCycle(start=0.2, peak=0.5)(f) for f in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 1.0, 0.2])
    with pytest.raises(UsageError, match="nothing leads to it"):
        OneCycle(peak=0.5, end=0.3)
    assert OneCycle(peak=0.5, end=0.3, cooldown=0.2)(1.0) == 0.3
