"""The dropout of a learner, all of it at a share of the probabilities that it was built with."""

from torch import nn

from gpuday.objectives import Learner


class Dropouts:
    """Finds what drops when it is made: `nn.Dropout`, and modules with a float `dropout`, as attention has."""

    def __init__(self, learner: Learner) -> None:
        self._peaks: list[tuple[nn.Module, str, float]] = []
        for module in learner.modules():
            name = "p" if isinstance(module, nn.Dropout) else "dropout"
            if isinstance(peak := getattr(module, name, None), float):
                self._peaks.append((module, name, peak))

    def at(self, share: float) -> None:
        """Set every probability to its share. A compiled learner compiles once for each share."""
        for module, name, peak in self._peaks:
            setattr(module, name, share * peak)
