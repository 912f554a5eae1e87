"""The gradient noise scale: the batch at which the noise of a step's gradient is as large as the gradient itself.

McCandlish et al., arXiv 1812.06162. B = tr(S) / |G|^2, with S the covariance of a row's gradient and G its mean, in rows.
The gradients of a step's two halves are two draws of G with independent noise: their product estimates |G|^2, their
distance tr(S), both without bias. No property of the device has a part in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

KEPT = 0.9  # of an average at each measurement: it reaches back over ten of them


@dataclass(frozen=True)
class Halves:
    """Rows in the two halves of a step."""

    first: int
    rest: int

    @classmethod
    def of(cls, rows: int) -> Self:
        return cls(rows // 2, rows - rows // 2)


@dataclass(frozen=True)
class Estimate:
    """|G|^2 and tr(S) of one step, or their averages. Either may be far off, and the first below zero, in one step."""

    signal: float
    trace: float

    @property
    def rows(self) -> float:
        """The noise scale; infinite where no signal is seen through the noise."""
        return self.trace / self.signal if self.signal > 0.0 else float("inf")

    def then(self, latest: "Estimate") -> "Estimate":
        """The average with one more measurement. What the first ones lack is the same factor in both, so that the scale
        has none of it; the average of nothing is zeros."""
        return Estimate(KEPT * self.signal + (1 - KEPT) * latest.signal, KEPT * self.trace + (1 - KEPT) * latest.trace)


def products(first: Sequence[Tensor], whole: Sequence[Tensor]) -> Tensor:
    """[3] fp32, on the device: s . s, s . w and w . w of the step's gradient w, of which the first half's rows added s."""
    pairs = [(s.flatten(), w.flatten()) for s, w in zip(first, whole, strict=True)]
    each = [torch.stack([torch.dot(s, s), torch.dot(s, w), torch.dot(w, w)]) for s, w in pairs]
    return torch.stack(each).sum(0)


def estimate(first: float, both: float, whole: float, *, halves: Halves) -> Estimate:
    """From the three `products` of a step with these halves, whose gradient is the mean over its rows."""
    rows = halves.first + halves.rest
    one, other = rows / halves.first, rows / halves.rest  # from a half's part of the mean to a mean of its own
    signal = one * other * (both - first)
    distance = one**2 * first + other**2 * (whole - 2 * both + first) - 2 * signal
    return Estimate(signal, max(0.0, distance) / (1 / halves.first + 1 / halves.rest))
