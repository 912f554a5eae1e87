"""What happens when the disk does not take a checkpoint: room is made, training goes on, and only the last save must
not fail."""

from collections.abc import Callable
from pathlib import Path

from gpuday.core.errors import FULL, EnvironmentFault
from gpuday.train import checkpoint


class Saves:
    """The saves of one attempt into `root`. `note` hears when they begin to fail and when they succeed again, not each
    time: a disk may be full for hours."""

    def __init__(self, root: Path, note: Callable[[str], None]) -> None:
        self._root, self._note = root, note
        self._fault = ""  # of the save before
        self._tight = False  # whether it needed room
        self._said: set[str] = set()

    def make(self, write: Callable[[], Path], *, must: bool) -> Path | None:
        """The folder that `write` returns, or None where the disk does not take it now; the next save tries again.

        On a full disk what can best be spared is removed first, never the newest whole checkpoint. A save that `must`
        be made raises EnvironmentFault instead.
        """
        try:
            folder = self._with_room(write)
        except OSError as error:
            fault = error.strerror or type(error).__name__
            if must:
                raise self._lost(fault) from error
            if fault != self._fault:
                self._note(f"no checkpoint can be written ({fault}); training goes on; {self._intact()}")
            self._fault = fault
            return None
        if self._fault:
            self._note("checkpoints can be written again")
        self._fault = ""
        return folder

    def say_once(self, message: str) -> None:
        """Of a checkpoint that stands: what failed beside it, and may fail with each."""
        what = message.partition(";")[0]
        if what not in self._said:
            self._said.add(what)
            self._note(message)

    def _with_room(self, write: Callable[[], Path]) -> Path:
        removed: list[str] = []
        while True:
            try:
                folder = write()
            except OSError as error:
                gone = checkpoint.make_room(self._root) if error.errno in FULL else ""
                if not gone:
                    raise
                removed.append(gone)
                if not self._tight:
                    self._note(f"the disk is full: {gone} is removed to make room for a newer checkpoint")
                self._tight = True
            else:
                self._tight = bool(removed)
                return folder

    def _intact(self) -> str:
        newest = next(iter(checkpoint.steps(self._root)), None)
        return "there is no earlier one" if newest is None else f"the one of step {newest} is intact"

    def _lost(self, fault: str) -> EnvironmentFault:
        return EnvironmentFault(
            f"the checkpoint cannot be written: {fault}; {self._intact()}",
            where=str(self._root),
            fix="make room or mend the disk, then give the same command again: it goes on from the last checkpoint",
        )
