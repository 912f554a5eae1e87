"""No mixing: every position is handed back as it is, so that a block knows of a token and its place, and of no other one.

The attention kind `none` of Geiping & Goldstein, arXiv 2212.14034: what all mixers are to be measured against.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from gpuday.models.mixers import Mixer, Place, Traits
from gpuday.models.visible import Visible


@dataclass(frozen=True, kw_only=True)
class Identity(Mixer):
    """x, without a parameter or a product."""

    @property
    def traits(self) -> Traits:
        return Traits(causal=True, scored=False)

    def check(self, *, width: int, layers: int) -> None:
        """Any will do."""

    def resized(self, layers: int, *, before: int) -> Mixer:
        return self

    def build(self, place: Place) -> nn.Module:
        return Same()

    def flops_per_token(self, place: Place) -> float:
        return 0.0


class Same(nn.Module):
    """(x [B, L, D], what is seen) -> x."""

    def forward(self, x: Tensor, seen: Visible) -> Tensor:
        return x
