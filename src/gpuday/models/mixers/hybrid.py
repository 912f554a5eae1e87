"""One mixer in the lower layers and another in the last few; Fourier below softmax is FNet-Hybrid.

Lee-Thorp et al., arXiv 2105.03824, who put attention into the last two layers. Costs what its layers cost.
"""

import math
from dataclasses import dataclass, replace

from torch import nn

from gpuday.core.errors import UsageError, at_least
from gpuday.models.mixers import Mixer, Place, Traits
from gpuday.models.mixers.fourier import Fourier
from gpuday.models.mixers.softmax import Softmax


@dataclass(frozen=True, kw_only=True)
class Hybrid(Mixer):
    """Both count their own layers from 0: patterns of windows and the first layer's values are among their own kind."""

    lower: Mixer = Fourier()
    """What mixes all layers but the last ones."""
    upper: Mixer = Softmax()
    """What mixes the last ones."""
    last: int = 2
    """How many layers are the last ones; fewer than there are layers."""

    def __post_init__(self) -> None:
        at_least("model.mixer", last=(self.last, 1))

    @property
    def traits(self) -> Traits:
        both = (self.lower.traits, self.upper.traits)
        return Traits(
            causal=all(t.causal for t in both),
            scored=any(t.scored for t in both),
            recalls=any(t.recalls for t in both),
            unit=math.lcm(*(t.unit for t in both)),
            asked=self.upper.traits.asked,  # which mixes the last layer, the one that is asked
        )

    def check(self, *, width: int, layers: int) -> None:
        self.lower.check(width=width, layers=self._below(layers))
        self.upper.check(width=width, layers=self.last)

    def resized(self, layers: int, *, before: int) -> Mixer:
        """The same share of each, one layer at least; in a single layer the upper one, or what positions can act on."""
        if layers == 1:
            if self.lower.traits.scored and not self.upper.traits.scored:
                return self.lower.resized(1, before=self._below(before))
            return self.upper.resized(1, before=self.last)
        last = min(layers - 1, max(1, round(self.last * layers / before)))
        lower = self.lower.resized(layers - last, before=self._below(before))
        return replace(self, lower=lower, upper=self.upper.resized(last, before=self.last), last=last)

    def build(self, place: Place) -> nn.Module:
        mixer, place = self._at(place)
        return mixer.build(place)

    def flops_per_token(self, place: Place) -> float:
        mixer, place = self._at(place)
        return mixer.flops_per_token(place)

    def _at(self, place: Place) -> tuple[Mixer, Place]:
        """The mixer of a layer, and the layer's place among those of its kind."""
        below = self._below(place.depth)
        if place.layer < below:
            return self.lower, replace(place, depth=below)
        return self.upper, replace(place, layer=place.layer - below, depth=self.last)

    def _below(self, layers: int) -> int:
        """How many of all layers are the lower mixer's."""
        if self.last >= layers:
            raise UsageError(
                f"the last {self.last} of {layers} layers leave none to the lower mixer",
                where="model.mixer.last",
                fix=f"give at most {layers - 1}" if layers > 1 else "give the model more layers",
            )
        return layers - self.last
