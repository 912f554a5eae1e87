"""When a run looks, saves and ends: what rank 0 decides between two steps, by its clock and by what things cost lately."""

import statistics
from collections import deque
from dataclasses import replace

from gpuday.core.clock import Clock
from gpuday.recipe import TrainConfig
from gpuday.train.progress import Action, Pace


class Timing:
    """Keeps the pace, and of the budget what the end will need. `step` is the number of steps made so far, `period` that
    from one of the optimizer's dear updates to the next."""

    def __init__(self, clock: Clock, config: TrainConfig, *, step: int, pace: Pace, period: int = 1) -> None:
        self.pace, self._clock, self._config = pace, clock, config
        self._row_seconds: deque[float] = deque(maxlen=9)  # of steps that compiled nothing
        # Two periods, since updates that were left out put the next dear one off; what a resume remembers is in it.
        self._whole_seconds = deque([pace.longest_seconds], maxlen=2 * period)
        self._period = period
        self._save_seconds: deque[float] = deque(maxlen=5)
        # The step after which it was done last, and the moment.
        self._looked, self._saved = (step, clock.fraction()), (step, clock.used_seconds())

    def next(self, step: int, fraction: float, *, rows: int, compiles: bool, doubtful: bool = False) -> Action:
        """What comes next at this fraction of the budget; a step would read so many rows, and compile or not.

        Weights that are `doubtful` are not saved for the time being: the last update could not be made with them.
        """
        if step > self._looked[0] and fraction < 1.0 and fraction - self._looked[1] >= self._config.validate_every:
            return "look"
        since = self._clock.used_seconds() - self._saved[1]
        if step > self._saved[0] and since >= self._config.save_every_seconds and not doubtful:
            return "save"
        # Room for half of a step if it only steps, and for all of it if it compiles, or if it may be a dear one.
        seconds = rows * self.pace.row_seconds
        dear = self.pace.longest_seconds if self._period > 1 else 0.0
        seconds = 2 * (max(seconds, dear) + self.pace.compile_seconds) if compiles else max(seconds, 2 * dear)
        return "step" if fraction < 1.0 and self._clock.room_for(seconds) else "finish"

    def stepped(self, seconds: float, *, rows: int, compiled: bool) -> None:
        """A step took so long."""
        if compiled:
            self.pace = replace(self.pace, compile_seconds=seconds)
        else:
            self._row_seconds.append(seconds / rows)
            self._whole_seconds.append(seconds)
            self.pace = replace(
                self.pace,
                row_seconds=statistics.median(self._row_seconds),
                longest_seconds=max(self._whole_seconds),
            )

    def went_back(self, step: int) -> None:
        """The run is at this step again, as if it had been resumed there."""
        self._looked = step, self._clock.fraction()

    def looked(self, step: int, whole_seconds: float) -> None:
        """A look was taken; one at all rows would take so long."""
        self._looked = step, self._clock.fraction()
        self.pace = replace(self.pace, look_seconds=whole_seconds)
        self._reserve()

    def tried(self, step: int) -> None:
        """A save was tried; the next one comes as late as after one that succeeded."""
        self._saved = step, self._clock.used_seconds()

    def saved(self, step: int, seconds: float) -> None:
        """A save took so long."""
        self.tried(step)
        self._save_seconds.append(seconds)
        self._reserve()

    def _reserve(self) -> None:
        """Keep back of the budget what a full look and a save will take."""
        saving = statistics.median(self._save_seconds) if self._save_seconds else 0.0
        self._clock.reserve_seconds = self.pace.look_seconds + saving
