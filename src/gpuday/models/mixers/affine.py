"""Attention without softmax: the weights are the scores themselves, normed or only scaled, O(L^2).

Normed: Richter & Wattenhofer, arXiv 2005.09561, each query's scores centred and divided by their deviation over the keys
that it sees, with a learned gain and shift for each head. Two things are not theirs: the factor below, and that the heads'
answers go straight into the last projection, where their blocks have a norm and a GELU before it and a norm behind it.
Scaled: the identity of Geiping & Goldstein, arXiv 2212.14034. Both times n^-1/2 for n keys in sight, so that the answer's
size does not depend on the row's length. Normed scores hold six times the memory of softmax's layer, in fp32 for each pair.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpuday.models.attention import where_allowed
from gpuday.models.mixers import Place
from gpuday.models.mixers._heads import (
    AllPairs,
    MultiHead,
    OtherWeights,
    heads_of,
    keys_in_sight,
    scaled,
)

EPS = 1e-5  # added to the scores' variance


@dataclass(frozen=True, kw_only=True)
class Affine(AllPairs):
    """n^-1/2 (gain (s - mean) / deviation + shift), or n^-1/2 s, of the scores s of a query over n keys."""

    head_width: int = 64
    """Width of one head; the model's width must be a multiple of it."""
    theta: float = 10000.0
    """Base of the rotary wavelengths, when positions are rotary."""
    normed: bool = True
    """Whether scores are normed and have gain and shift, or are only scaled."""

    def build(self, place: Place) -> nn.Module:
        weigh = Normed(heads_of(place.width, self.head_width)) if self.normed else scaled
        weights = OtherWeights(weigh, dropout=place.dropout)
        return MultiHead(place, weights, head_width=self.head_width, theta=self.theta)


class Normed(nn.Module):
    """`scaled` of each query's scores after they are brought to mean 0 and variance 1, with gain and shift for a head."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(heads)), nn.Parameter(torch.zeros(heads))

    def forward(self, scores: Tensor, allowed: Tensor | None) -> Tensor:
        n = keys_in_sight(scores, allowed)
        mean = where_allowed(scores, allowed).sum(-1, keepdim=True) / n
        centred = where_allowed(scores - mean, allowed)
        unit = centred * (centred.square().sum(-1, keepdim=True) / n + EPS).rsqrt()
        return scaled(unit * self.gain[:, None, None] + self.shift[:, None, None], allowed, n)
