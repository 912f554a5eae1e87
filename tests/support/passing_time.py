"""A time that passes when it is told to, and a clock that reads it."""

from gpuday.core.clock import Budget, Clock


class Time:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def passes(self, seconds: float) -> None:
        self.seconds += seconds


def running(budget: str = "100s") -> tuple[Clock, Time]:
    """A clock that was started, and its time."""
    time = Time()
    clock = Clock(Budget.parse(budget), now=time)
    clock.start()
    return clock, time
