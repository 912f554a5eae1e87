"""`gpuday run`, and the rooms up to training: prepare -> fit -> train -> evaluate -> export -> report.

Under `torchrun` rank 0 prints, prepares, measures and writes; the other ranks train with it and then leave.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace

import torch

from gpuday.cli.data import run_data, whole_data
from gpuday.cli.evaluate import check_tasks, evaluate_room
from gpuday.cli.flags import Flags, TaskFlags
from gpuday.cli.resolve import check_model, claim_run, resolve_recipe, resolve_run
from gpuday.cli.rooms import export_room, report_room
from gpuday.cli.screen import Screen
from gpuday.core.cache import cache_folder
from gpuday.core.environment import environment
from gpuday.core.errors import GpudayError
from gpuday.core.rundir import RunDir, read_json
from gpuday.data.prepared import PreparedData
from gpuday.export.hf import foreseen
from gpuday.objectives import Learner
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner, vocabulary_of
from gpuday.train.device import EnergyMeter, describe, pick_device
from gpuday.train.fit import fit
from gpuday.train.loop import train
from gpuday.train.mending import mend
from gpuday.train.parallel import Ranks
from gpuday.train.signals import obeyed
from gpuday.train.space import check_space
from gpuday.train.summary import sections


def run_command(preset: str | None = None, *, flags: Flags = Flags(), tasks: TaskFlags = TaskFlags()) -> None:  # noqa: B008
    """Prepare, train, evaluate, export and report. The same command again resumes."""
    ranks = Ranks.of_environment()
    with Screen(as_json=flags.json, silent=not ranks.leads) as screen:
        recipe = resolve_recipe(preset, flags, screen)
        _foretell(check_model(recipe), screen)
        tasks = replace(tasks, task_seeds=1 if tasks.task_seeds is None else tasks.task_seeds)
        check_tasks(tasks, ahead=True)  # a missing task file is found before the budget is spent
        run = resolve_run(recipe, flags)
        with _claimed(run, ranks):
            prepare_and_train(recipe, run, screen, ranks)
            if ranks.leads:
                evaluate_room(run, tasks, screen)
                export_room(run, screen)
                report_room(run, screen)


def prepare_command(preset: str | None = None, *, flags: Flags = Flags()) -> None:  # noqa: B008
    """Read the corpus, train the tokenizer, pack tokens."""
    with Screen(as_json=flags.json) as screen:
        recipe = resolve_recipe(preset, flags, screen)
        check_model(recipe)
        run = resolve_run(recipe, flags)
        with run.lock():
            prepare_room(recipe, run, screen)


def train_command(preset: str | None = None, *, flags: Flags = Flags()) -> None:  # noqa: B008
    """Prepare if needed, and train until the budget is used."""
    ranks = Ranks.of_environment()
    with Screen(as_json=flags.json, silent=not ranks.leads) as screen:
        recipe = resolve_recipe(preset, flags, screen)
        _foretell(check_model(recipe), screen)
        run = resolve_run(recipe, flags)
        with _claimed(run, ranks):
            prepare_and_train(recipe, run, screen, ranks)


def _foretell(learner: Learner, screen: Screen) -> None:
    """Tell what the export will refuse or leave out, before the budget is spent on it."""
    if told := foreseen(learner):
        screen.tell("notice", message=f"export, {told}")


def prepare_and_train(recipe: Recipe, run: RunDir, screen: Screen, ranks: Ranks) -> None:
    """What all ranks do together: rank 0 prepares, the others then open what it wrote, and all train."""
    device = ranks.device()
    with _told_once(), ranks.joined(device):
        data = ranks.lead_first(lambda: _verified(recipe, run, screen), lambda: PreparedData.open(run.data))
        train_room(recipe, data, run, screen, device, ranks)


@contextlib.contextmanager
def _told_once() -> Iterator[None]:
    """What ends several ranks, a fault that they share or one that is gone, is said by one of this host."""
    try:
        yield
    except GpudayError as error:
        if error.told is not None and signal.SIGTERM in obeyed():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, for a process that is leaving
        if error.told:
            sys.exit(error.exit_code)
        raise


def _claimed(run: RunDir, ranks: Ranks) -> contextlib.AbstractContextManager[None]:
    """The lock of the run's folder, held by rank 0 for all."""
    return run.lock() if ranks.leads else contextlib.nullcontext()


def prepare_room(recipe: Recipe, run: RunDir, screen: Screen) -> PreparedData:
    """Open the run's data, prepared first if there is none, and claim its folder for the recipe."""
    screen.tell("run", folder=str(run.root), recipe=recipe.preset, size=recipe.size)
    mend(run, recipe, lambda message: screen.tell("notice", message=message))
    data = run_data(recipe, run, cache_folder() / "data", screen)
    claim_run(run, recipe, environment(describe(pick_device())))  # only now: a misspelt corpus claims no folder
    return data


def _verified(recipe: Recipe, run: RunDir, screen: Screen) -> PreparedData:
    """The data, every byte against its checksum before the clock starts; a finished run needs none of the tokens."""
    data = prepare_room(recipe, run, screen)
    return data if _is_trained(run) else whole_data(data, recipe, run, cache_folder() / "data", screen)


def _is_trained(run: RunDir) -> bool:
    return run.summary.exists() and "train" in read_json(run.summary)


def train_room(
    recipe: Recipe, data: PreparedData, run: RunDir, screen: Screen, device: torch.device, ranks: Ranks
) -> None:
    """Fit to the device, train within the budget, write the summary. A run that has its summary is finished."""
    if _is_trained(run):
        screen.tell("trained", already=True)
        return
    screen.budget_seconds = recipe.budget.seconds
    vocabulary = vocabulary_of(data.tokenizer)
    fitted = ranks.lead_first(  # the others find the answer pinned in the run
        lambda: fit(
            recipe,
            device=device,
            make_learner=lambda: make_learner(recipe, vocab=vocabulary.size),
            vocabulary=vocabulary,
            heldout_rows=len(data.heldout),
            pinned=run.fit,
            cache=cache_folder() / "fit",
            ranks=ranks.size,
        )
    )
    screen.tell(
        "fit",
        microbatch=fitted.microbatch,
        rows=fitted.rows,
        dtype=fitted.dtype,
        threads=fitted.threads,
        compiled=fitted.compiled,
        expected_tokens=fitted.expected_tokens,
        tokens_per_second=fitted.tokens_per_second,
        reasons=asdict(fitted.reasons),
    )
    for notice in fitted.notices:
        screen.tell("notice", message=notice)
    if ranks.leads:
        check_space(recipe, run, fitted, vocab=vocabulary.size)
    ranks.largest(0.0)  # the clock starts once all are here, their compilers started
    energy = EnergyMeter(device)
    progress, clock = train(recipe, data, run, fitted, device=device, tell=screen.tell, ranks=ranks)
    if ranks.leads:
        run.update_summary(**sections(recipe, data, run, fitted, progress, clock, energy))
    screen.tell("trained", steps=progress.step, tokens=progress.tokens, used_seconds=clock.used_seconds())
