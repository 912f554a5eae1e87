"""`gpuday replay`: makes the steps of a finished run again, and says whether the same weights come out."""

from dataclasses import asdict
from pathlib import Path

from gpuday.cli.data import run_data
from gpuday.cli.flags import Output
from gpuday.cli.resolve import know_parts
from gpuday.cli.screen import Screen
from gpuday.core import config
from gpuday.core.cache import cache_folder
from gpuday.core.errors import DataError, GpudayError
from gpuday.core.rundir import RunDir, read_json
from gpuday.train.device import pick_device
from gpuday.train.fit import Fit
from gpuday.train.replay import Replayed, replay
from gpuday.train.trained import load_recipe


def replay_command(run: Path, *, output: Output = Output()) -> None:  # noqa: B008
    """Make a finished run's steps again from its journal, and compare the weights to the bit."""
    with Screen(as_json=output.json) as screen:
        know_parts(output.part, screen)
        folder = RunDir(run)
        recipe = load_recipe(folder)
        if not folder.fit.exists():
            raise DataError(f"{run} was not trained", where="RUN", fix="train it to the end first")
        with folder.lock():
            data = run_data(recipe, folder, cache_folder() / "data", screen)
            data.train.verify()
            fitted = config.from_dict(Fit, read_json(folder.fit), where=str(folder.fit))
            found = replay(recipe, data, folder, fitted, device=pick_device(), tell=screen.tell)
        screen.tell("replay", equal=found.equal, **asdict(found))
        if not found.equal:
            raise _not_equal(run, found)


def _not_equal(run: Path, found: Replayed) -> GpudayError:
    losses = f"losses part at step {found.parted_at}" if found.parted_at else "every loss is the same"
    tensors = f"the first tensor that differs is {found.differing}" if found.differing else "all tensors are the same"
    return GpudayError(
        f"the replay is not the run: {losses}; {tensors}",
        where=str(run),
        fix="on the same machine with the same versions this is a fault of the device or of the program: report it",
    )
