"""Parameters on a walk that is written down, so that any average of it can be computed by hand."""

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from gpuday.averages import Averager


class Walk:
    """Parameters that jump to a new place at each step; `places` are all so far, in double precision."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self.parameters = {
            "block.weight": torch.nn.Parameter(torch.zeros(3, 4)),
            "scale": torch.nn.Parameter(torch.zeros(())),
        }
        self.places: list[np.ndarray] = []

    def step(self) -> None:
        with torch.no_grad():
            for p in self.parameters.values():
                p.copy_(torch.randn(p.shape, generator=self._generator))
        self.places.append(self.here())

    def here(self) -> np.ndarray:
        """All parameters, one after the other."""
        return np.concatenate([p.detach().double().numpy().reshape(-1) for p in self.parameters.values()])

    def follow(self, averager: Averager, fractions: list[float]) -> None:
        """A step and an update at each of these fractions of the budget."""
        for fraction in fractions:
            self.step()
            averager.update(fraction, nullcontext)

    def average(self, averager: Averager) -> np.ndarray:
        """What the parameters hold inside of `swapped()`."""
        with averager.swapped():
            return self.here()


@pytest.fixture
def make_walk() -> Callable[[], Walk]:
    """A walk from its beginning, always the same one."""
    return Walk


@pytest.fixture
def walk() -> Walk:
    """A walk from its beginning."""
    return Walk()
