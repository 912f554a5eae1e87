"""The data of a run: what it needs for good in its own folder, the tokens it trains on in the shared cache.

Tokenizer, manifest, dropped documents and held-out text are copied, so that a finished run is whole when the cache is
cleared or the folder moves to another machine. `train.tok` is a link. When a run resumes and the link is dead, the
tokens are made again with the run's own tokenizer and must come out the same. So it is with whatever is damaged: it is set
aside under a name that says why. What it was stands in each checkpoint too, so that a run that lost its data goes on with no
other.
"""

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path

from gpuday.cli.screen import Screen
from gpuday.core.errors import DataError
from gpuday.core.rundir import RunDir, fsync_folder, set_aside
from gpuday.core.sealed import DamagedFile, digest, read_sealed
from gpuday.data.prepare import DataConfig, prepare
from gpuday.data.prepared import INDEXES, MANIFEST, PreparedData, refuse_other_version, set_aside_damaged
from gpuday.recipe import Recipe
from gpuday.train.checkpoint import load_newest
from gpuday.train.mending import data_of
from gpuday.train.resumable import resumable

OWN_FILES = ("tokenizer.json", "manifest.json", "drops.json")
OWN_FOLDERS = ("heldout.tok", "heldout.words")
TOKENS, INDEX = "train.tok", "train.index.json"


def run_data(recipe: Recipe, run: RunDir, cache: Path, screen: Screen) -> PreparedData:
    """The run's data, opened; prepared first if the run has none, and made again where a file is damaged."""
    _finish_exchange(run)
    refuse_other_version(run.data)
    if not run.data.exists():
        _begin(recipe, run, cache, screen)
    elif not (run.data / TOKENS).exists():
        _restore_tokens(recipe, run, cache, screen)
    try:
        return PreparedData.open(run.data)
    except DamagedFile as damage:
        return _make_again(recipe, run, cache, screen, damage)


def _begin(recipe: Recipe, run: RunDir, cache: Path, screen: Screen) -> None:
    """Give a run data of its own. Raises DataError where it has trained on other data, or nobody knows on what."""
    known = _trained_on(run, screen)
    if known is None:
        raise DataError(
            "the data of the run is gone, and its checkpoints, of an earlier version, do not say what it was",
            where=str(run.data),
            fix="restore the folder, or begin another run with --out; the checkpoints are intact",
        )
    data = prepare(recipe.data, cache, progress=screen.tell)
    if not _is_known(data, known):
        raise DataError(
            "the data of the run is gone, and the corpus no longer gives what the run began with",
            where=str(run.data),
            fix="restore the folder or the corpus, or begin another run with --out; the checkpoints are intact",
        )
    os.replace(_copied(data, run), run.data)
    fsync_folder(run.root)


def _trained_on(run: RunDir, screen: Screen) -> dict[str, str] | None:
    """Checksums of the indexes that the newest checkpoint was trained on; empty without one, None where it is of a version
    that did not note them. The caller holds the run's lock."""
    if not run.checkpoints.exists():
        return {}
    saved = load_newest(run.checkpoints, warn=lambda message: screen.tell("notice", message=message), fits=resumable)
    return {} if saved is None else data_of(saved.state)


def _is_known(data: PreparedData, known: dict[str, str]) -> bool:
    """Whether prepared data is what is known of the run's, and no other."""
    return all(data.manifest["files"].get(name) == checksum for name, checksum in known.items())


def whole_data(data: PreparedData, recipe: Recipe, run: RunDir, cache: Path, screen: Screen) -> PreparedData:
    """The run's data after every byte of it was read; made again where one is not what was written.

    Raises DataError when it does not come out the same.
    """
    try:
        data.verify()
    except DamagedFile as damage:
        data = _make_again(recipe, run, cache, screen, damage)
        data.verify()
    return data


def _make_again(recipe: Recipe, run: RunDir, cache: Path, screen: Screen, damage: DamagedFile) -> PreparedData:
    """Put data in place that is to the byte what the run began with, from the cache or made anew; what was there is set
    aside. Raises DataError where it cannot be had, or where nothing whole says any more what it was."""
    screen.tell("notice", message=f"{damage.what}; the data of the run is taken from the cache again, or made again")
    known, fault = _began_with(run, screen), damage.what
    stored = (run.data / TOKENS).resolve().parent
    if stored.is_dir() and stored != run.data.resolve():  # a run that was copied whole has its tokens in itself
        set_aside_damaged(stored, screen.tell)
    if INDEXES[0] in known or not run.checkpoints.exists():
        for config in _ways(recipe, run):
            try:
                data = prepare(config, cache, progress=screen.tell)
            except DataError as error:
                fault = error.what
                continue
            if _is_known(data, known):
                return _exchange(data, run, damage)
            fault = "the corpus no longer gives the tokens that the run began with"
    else:
        fault = f"nothing whole says which tokens the run began with ({fault})"
    raise DataError(
        f"the data of the run is damaged and cannot be made again: {fault}",
        where=str(damage.path),
        fix="restore the file or the corpus, or begin another run with --out; the checkpoints are intact",
    )


def _ways(recipe: Recipe, run: RunDir) -> list[DataConfig]:
    """How the data may come out the same: as it was made, and with the run's own tokenizer. WordPiece training does not
    give the same file twice."""
    own = dataclasses.replace(recipe.data, tokenizer=os.fspath(run.data / "tokenizer.json"))
    return [recipe.data, own] if recipe.data.tokenizer == "bpe" else [own, recipe.data]


def _began_with(run: RunDir, screen: Screen) -> dict[str, str]:
    """Checksums of the indexes that the run began with, as far as its data or else its newest checkpoint say them."""
    known = _known(run.data)
    return known if INDEXES[0] in known else known | (_trained_on(run, screen) or {})


def _known(folder: Path) -> dict[str, str]:
    """The same, as far as a whole file of the data still says them."""
    with contextlib.suppress(DamagedFile, KeyError, TypeError):
        files = read_sealed(folder / MANIFEST)["files"]
        return {name: str(files[name]) for name in INDEXES}
    known = {}
    for name in INDEXES:
        with contextlib.suppress(DamagedFile):
            path = folder / (INDEX if name == INDEXES[0] else name)
            read_sealed(path)
            known[name] = digest(path.read_bytes())
    return known


def _exchange(data: PreparedData, run: RunDir, damage: DamagedFile) -> PreparedData:
    """Put the data in the place of what the run has. A kill in between is made good by `_finish_exchange`."""
    os.replace(_copied(data, run), _waiting(run))
    set_aside(run.data, damage.path.name)
    _finish_exchange(run)
    return PreparedData.open(run.data)


def _finish_exchange(run: RunDir) -> None:
    """Whole data that waits beside the run's takes its place where that was set aside, and goes where it was not."""
    if not _waiting(run).exists():
        return
    if run.data.exists():
        shutil.rmtree(_waiting(run))
    else:
        os.replace(_waiting(run), run.data)
        fsync_folder(run.root)


def _waiting(run: RunDir) -> Path:
    return run.data.with_name(f".{run.data.name}.again")


def _copied(data: PreparedData, run: RunDir) -> Path:
    """A temporary folder in the run with prepared data, copied and linked; it becomes the run's by a rename."""
    building = run.data.with_name(f".{run.data.name}.{os.getpid()}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for name in OWN_FILES:
        shutil.copyfile(data.folder / name, building / name)
    for name in OWN_FOLDERS:
        shutil.copytree(data.folder / name, building / name)
    shutil.copyfile(data.folder / TOKENS / "index.json", building / INDEX)
    (building / TOKENS).symlink_to(os.path.abspath(data.folder / TOKENS), target_is_directory=True)
    return building


def _restore_tokens(recipe: Recipe, run: RunDir, cache: Path, screen: Screen) -> None:
    """Make the tokens again. Raises DataError when the corpus is no longer the one that the run began with."""
    screen.tell("notice", message="the prepared tokens are gone from the cache; they are made again")
    own = dataclasses.replace(recipe.data, tokenizer=os.fspath(run.data / "tokenizer.json"))
    data = prepare(own, cache, progress=screen.tell)
    if data.manifest["files"][INDEXES[0]] != _began_with(run, screen).get(INDEXES[0]):
        raise DataError(
            "the corpus no longer gives the tokens that the run began with",
            where=str(run.root),
            fix="restore the corpus files, or begin another run with --out",
        )
    (run.data / TOKENS).unlink(missing_ok=True)
    (run.data / TOKENS).symlink_to(os.path.abspath(data.folder / TOKENS), target_is_directory=True)
