"""Softmax of cosine similarities over a learned temperature, O(L^2).

Query-key normalisation of Henry et al., arXiv 2010.04245, with one temperature for each head, learned as a logarithm and
bounded, as in Swin v2 (Liu et al., arXiv 2111.09883).
"""

from dataclasses import dataclass

from torch import nn

from gpuday.core.errors import within
from gpuday.models.mixers import Place
from gpuday.models.mixers._heads import (
    AllPairs,
    MultiHead,
    SoftmaxWeights,
    Temperature,
    heads_of,
)

MOST = 100.0


@dataclass(frozen=True, kw_only=True)
class Cosine(AllPairs):
    """softmax(scale cos(q, k)), the scale at most 100."""

    head_width: int = 64
    """Width of one head; the model's width must be a multiple of it."""
    theta: float = 10000.0
    """Base of the rotary wavelengths, when positions are rotary."""
    start: float = 10.0
    """Scale that every head begins with; Henry et al. take log2(L^2 - L) for rows of L positions, 14 at 128."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("model.mixer", start=(self.start, 0.01, MOST))

    def build(self, place: Place) -> nn.Module:
        root = self.head_width**0.5  # the length of a normed head, which the scores are divided by once
        return MultiHead(
            place,
            SoftmaxWeights(head_width=self.head_width, dropout=place.dropout),
            head_width=self.head_width,
            theta=self.theta,
            qk_norm="rms",
            temperature=Temperature(heads_of(place.width, self.head_width), start=self.start / root, most=MOST / root),
        )
