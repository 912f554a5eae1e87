"""Asking the held-out question of a model that is in training, with as many rows at a time as memory holds."""

from collections.abc import Callable

import torch

from gpuday.models.heads import MaskedLM
from gpuday.train.device import release
from gpuday.train.endings import too_large
from gpuday.train.fit import Fit
from gpuday.train.parallel import Ranks, TooLarge
from gpuday.train.signals import Interruptible
from gpuday.train.validate import Answer, HeldOut


class Looks:
    """Keeps the micro-batch of looks: as fitted, or half as large each time that memory ran out. `note` hears of it."""

    def __init__(
        self,
        heldout: HeldOut,
        fit: Fit,
        *,
        device: torch.device,
        ranks: Ranks,
        interruptible: Interruptible,
        note: Callable[[str], None],
    ) -> None:
        self._heldout, self._fit, self._device, self._ranks = heldout, fit, device, ranks
        self._interruptible, self._note = interruptible, note
        self._microbatch = fit.microbatch

    def ask(self, model: MaskedLM, *, rows: int, microbatch: int) -> Answer:
        """The answer on so many rows, at most `microbatch` at a time: it is the same for any number."""
        microbatch = min(self._microbatch, microbatch)
        while True:
            try:
                return self._heldout.ask(
                    model,
                    rows=rows,
                    microbatch=microbatch,
                    device=self._device,
                    ranks=self._ranks,
                    interruptible=self._interruptible,
                )
            except TooLarge as error:
                if microbatch == 1:
                    raise too_large(self._fit.device, "a look at the held-out text") from error
            self._microbatch = microbatch = microbatch // 2
            release(self._device)
            self._note(f"out of memory in a look with {2 * microbatch} rows at a time; from here on {microbatch}")
