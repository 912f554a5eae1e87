"""The errors that a training ends with: what, where and a fix, and the exit code that is promised."""

from pathlib import Path

from gpuday.train.endings import diverged, too_large
from gpuday.train.progress import Progress


def test_a_row_that_does_not_fit_names_device_and_place() -> None:
    """Exit code 4, and a smaller size as the way out."""
    error = too_large("a small card", "step 7")
    assert (error.exit_code, error.where) == (4, "a small card, step 7")
    assert "--size" in error.fix


def test_a_run_that_diverged_names_the_knobs_and_whether_it_went_back() -> None:
    """Exit code 70: rate and spike are what a person can change, in another run."""
    first = diverged(Path("runs/a"), Progress(step=7), "loss is not finite")
    again = diverged(Path("runs/a"), Progress(step=7, rolled_back_to=0), "loss is not finite")
    assert first.what == "training diverged at step 7: loss is not finite"
    assert again.what == "training diverged at step 7, once more since it went back to step 0: loss is not finite"
    for error in (first, again):
        assert (error.exit_code, error.where) == (70, "runs/a")
        assert "optimizer.lr" in error.fix and "train.spike" in error.fix
