"""The data of a run: what it needs for good in its own folder, the tokens it trains on in the shared cache.

Tokenizer, manifest, dropped documents and held-out text are copied, so that a finished run is whole when the cache is
cleared or the folder moves to another machine. `train.tok` is a link. When a run resumes and the link is dead, the
tokens are made again with the run's own tokenizer and must come out the same.
"""

import dataclasses
import os
import shutil
from pathlib import Path

from gpuday.cli.screen import Screen
from gpuday.core.errors import DataError
from gpuday.core.rundir import RunDir, fsync_folder, read_json
from gpuday.data.prepare import PreparedData, prepare
from gpuday.recipe import Recipe

OWN_FILES = ("tokenizer.json", "manifest.json", "drops.json")
OWN_FOLDERS = ("heldout.tok", "heldout.words")
TOKENS, INDEX = "train.tok", "train.index.json"


def run_data(recipe: Recipe, run: RunDir, cache: Path, screen: Screen) -> PreparedData:
    """The run's data, opened; prepared first if the run has none."""
    if not run.data.exists():
        _adopt(prepare(recipe.data, cache, progress=screen.tell), run)
    elif not (run.data / TOKENS).exists():
        _restore_tokens(recipe, run, cache, screen)
    return PreparedData.open(run.data)


def _adopt(data: PreparedData, run: RunDir) -> None:
    """Copy and link prepared data into the run; the folder appears whole."""
    building = run.data.with_name(f".{run.data.name}.{os.getpid()}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for name in OWN_FILES:
        shutil.copyfile(data.folder / name, building / name)
    for name in OWN_FOLDERS:
        shutil.copytree(data.folder / name, building / name)
    shutil.copyfile(data.folder / TOKENS / "index.json", building / INDEX)
    (building / TOKENS).symlink_to(os.path.abspath(data.folder / TOKENS), target_is_directory=True)
    os.replace(building, run.data)
    fsync_folder(run.root)


def _restore_tokens(recipe: Recipe, run: RunDir, cache: Path, screen: Screen) -> None:
    """Make the tokens again. Raises DataError when the corpus is no longer the one that the run began with."""
    screen.tell("notice", message="the prepared tokens are gone from the cache; they are made again")
    own = dataclasses.replace(recipe.data, tokenizer=os.fspath(run.data / "tokenizer.json"))
    data = prepare(own, cache, progress=screen.tell)
    if read_json(data.folder / TOKENS / "index.json") != read_json(run.data / INDEX):
        raise DataError(
            "the corpus no longer gives the tokens that the run began with",
            where=str(run.root),
            fix="restore the corpus files, or begin another run with --out",
        )
    (run.data / TOKENS).unlink(missing_ok=True)
    (run.data / TOKENS).symlink_to(os.path.abspath(data.folder / TOKENS), target_is_directory=True)
