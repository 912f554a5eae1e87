"""The errors that a training ends with, each with what a person can do about it."""

from pathlib import Path

from gpuday.core.errors import FitError, GpudayError
from gpuday.train.progress import Progress


def too_large(device: str, where: str) -> FitError:
    """Every half of the micro-batch was tried."""
    return FitError(
        "not even one row fits the device's memory",
        where=f"{device}, {where}",
        fix="choose a smaller --size, or end what else uses the memory",
    )


def diverged(root: Path, progress: Progress, reason: str) -> GpudayError:
    """Going back to a checkpoint did not help, or there is none to go back to."""
    back = progress.rolled_back_to
    again = f", once more since it went back to step {back}" if back >= 0 else ""
    return GpudayError(
        f"training diverged at step {progress.step}{again}: {reason}",
        where=str(root),
        fix="begin another run with a lower learning rate (--set optimizer.lr=...), or, where the updates that were left "
        "out were sound, with a larger --set train.spike=...; the last checkpoint is intact",
    )
