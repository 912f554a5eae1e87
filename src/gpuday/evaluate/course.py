"""How far an evaluation is: fine-tunings differ in length by a thousand, so that what is left is counted in work, not in
fine-tunings."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpuday.evaluate.finetune import Tell
from gpuday.evaluate.protocols import Protocol
from gpuday.evaluate.tasks.rows import Rows, TaskData

PREDICTING = 0.33  # work of a row that is answered, of one that is trained on


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of a task, in characters."""

    trained: float
    """Read in an epoch."""
    answered: float
    """Read once, when all is trained."""

    @classmethod
    def of(cls, data: TaskData) -> "Size":
        rows = (data.dev, *data.companions.values(), *data.test.values())
        return cls(trained=_characters(data.train), answered=sum(map(_characters, rows)))

    def work(self, protocol: Protocol) -> float:
        """Of one fine-tuning by a setting."""
        return protocol.epochs * self.trained + PREDICTING * self.answered


class Course:
    """Passes events on; those of a fine-tuning with `left`, the seconds until the whole evaluation is done."""

    def __init__(self, total: float, tell: Tell | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._left, self._tell, self._now = total, tell, now
        self._done = self._spent = self._current = 0.0
        self._began = now()

    def __call__(self, event: str, /, **values: Any) -> None:
        if self._tell is None:
            return
        if "seconds_left" in values:
            values["left"] = self._seconds(values.pop("seconds_left"))
        self._tell(event, **values)

    def begin(self, amount: float) -> None:
        """A fine-tuning of so much work begins."""
        self._current, self._began = amount, self._now()

    def end(self) -> None:
        """It is done."""
        self._spent += self._now() - self._began
        self._done += self._current
        self.skip(self._current)
        self._current = 0.0

    def skip(self, amount: float) -> None:
        """So much need not be done."""
        self._left -= amount

    def _seconds(self, of_this: float) -> float:
        """Until all is done, when this fine-tuning takes so much longer; its own pace counts like that of those before."""
        ours = self._now() - self._began + of_this
        pace = (self._spent + ours) / max(1.0, self._done + self._current)
        return of_this + max(0.0, self._left - self._current) * pace


def _characters(rows: Rows) -> float:
    options = sum(
        len(option) + len(text)
        for text, group in zip(rows.text_a, rows.options or (), strict=False)
        for option in group
    )
    return float(options or sum(map(len, rows.text_a)) + sum(map(len, rows.text_b or ())))
