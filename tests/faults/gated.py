"""`gpuday` with a gate: rank 0 comes to a place of its work, says so, and waits there until it is let on.

Run as a script with GATE=PLACE and GATE_FILE in the environment. At the place the file appears, with the process's id
in it; once the file is removed the work goes on. So a test kills a rank exactly there, however fast the machine is.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEP = 12  # of `step`: half-way through the runs of the tests


def wait() -> None:
    """The gate: it stands once."""
    file = Path(os.environ["GATE_FILE"])
    temporary = file.with_suffix(".tmp")
    temporary.write_text(str(os.getpid()))
    temporary.rename(file)
    while file.exists():
        time.sleep(0.005)


def gated(module: Any, name: str, here: Callable[..., bool] = lambda *_: True) -> None:
    """Put the gate before a function of a module or class, at its first call for which `here` holds."""
    real, waited = getattr(module, name), []

    def function(*args: Any, **options: Any) -> Any:
        if not waited and here(*args):
            waited.append(True)
            wait()
        return real(*args, **options)

    setattr(module, name, function)


def main() -> None:
    """Import what the place needs, put up its gate, and be `gpuday`."""
    from gpuday import cli
    from gpuday.cli import run
    from gpuday.train import checkpoint, session

    place = os.environ.get("GATE", "") if os.environ.get("RANK", "0") == "0" else ""
    if place == "prepare":
        gated(run, "prepare_room")
    elif place == "step":
        gated(session.Session, "step", lambda self, *_: self.progress.step >= STEP)
    elif place == "save":  # every file is written, and the folder not yet renamed
        gated(
            checkpoint,
            "fsync_folder",
            lambda folder: folder.name.startswith(".tmp") and "-00000000-" not in folder.name,
        )
    elif place == "evaluate":
        gated(run, "evaluate_room")
    cli.main()


if __name__ == "__main__":
    main()
