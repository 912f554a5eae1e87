"""Attention without softmax: a key's weight adds up the scores of the keys up to it, O(L^2).

The cumulative sums that Geiping & Goldstein, arXiv 2212.14034, tried in softmax's place: of the scores, or the logarithm
of that of their exponentials. Times n^-1/2 for n keys in sight, so that the answer's size does not depend on the row's
length. Logarithms hold six times the memory of softmax's layer, in fp32 for each pair, cumulative scores twice.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gpuday.models.attention import where_allowed
from gpuday.models.mixers import Place
from gpuday.models.mixers._heads import (
    AllPairs,
    MultiHead,
    OtherWeights,
    scaled,
)

NOTHING = -1e4  # a score whose exponential is zero in fp32, and which the sums' gradient takes, unlike -inf


@dataclass(frozen=True, kw_only=True)
class Cumulative(AllPairs):
    """n^-1/2 sum_{j' <= j} s_j', or n^-1/2 log sum_{j' <= j} exp(s_j'), as the weight of key j."""

    head_width: int = 64
    """Width of one head; the model's width must be a multiple of it."""
    theta: float = 10000.0
    """Base of the rotary wavelengths, when positions are rotary."""
    of: Literal["scores", "exponentials"] = "scores"
    """What is added up."""

    def build(self, place: Place) -> nn.Module:
        weigh = summed if self.of == "scores" else summed_exponentials
        weights = OtherWeights(weigh, dropout=place.dropout)
        return MultiHead(place, weights, head_width=self.head_width, theta=self.theta)


def summed(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Cumulative sums [B, H, L, L] of the allowed scores along the keys, zero elsewhere."""
    return scaled(where_allowed(scores, allowed).cumsum(-1), allowed)


def summed_exponentials(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Logarithms [B, H, L, L] of the cumulative sums of the allowed scores' exponentials, zero elsewhere."""
    return scaled(torch.logcumsumexp(where_allowed(scores, allowed, NOTHING), -1), allowed)
