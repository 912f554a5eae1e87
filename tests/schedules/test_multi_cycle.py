"""Triangles one after another."""

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.schedules.multi_cycle import MultiCycle


@pytest.mark.parametrize(("mode", "decay"), [("triangular", 1.0), ("triangular2", 0.5)])
def test_cycles_are_pytorchs(mode, decay):
    """Their `CyclicLR` from a tenth to 1, five cycles of twenty steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.CyclicLR(
        optimizer, base_lr=0.1, max_lr=1.0, step_size_up=10, mode=mode, cycle_momentum=False
    )
    rates = []
    for _ in range(101):
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    ours = MultiCycle(cycles=5, end=0.1, decay=decay)
    assert [ours(i / 100) for i in range(101)] == pytest.approx(rates, abs=1e-9)


def test_the_last_cycle_ends_with_the_budget():
    """Exactly at its end, and stays there; the remainder of a division would begin another cycle."""
    assert [MultiCycle(cycles=7, end=0.25)(f) for f in (1.0, 1.2)] == [0.25, 0.25]


@pytest.mark.parametrize("knobs", [{"cycles": 0}, {"cycles": 1001}, {"decay": -0.1}, {"decay": 1.1}])
def test_cycles_that_grow_or_are_none_are_refused(knobs):
    """With the name of the knob."""
    with pytest.raises(UsageError, match=f"{next(iter(knobs))} is"):
        MultiCycle(**knobs)
