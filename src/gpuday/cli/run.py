"""`gpuday run`, and the rooms up to training: prepare -> fit -> train -> evaluate -> export -> report."""

from gpuday.cli.data import run_data
from gpuday.cli.flags import Flags, TaskFlags
from gpuday.cli.resolve import cache_folder, claim_run, resolve_recipe, resolve_run
from gpuday.cli.rooms import check_tasks, evaluate_room, export_room, report_room
from gpuday.cli.screen import Screen
from gpuday.core.environment import environment
from gpuday.core.rundir import RunDir, read_json
from gpuday.data.prepare import PreparedData
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner, vocabulary_of
from gpuday.train.device import EnergyMeter, describe, pick_device
from gpuday.train.fit import fit
from gpuday.train.loop import train
from gpuday.train.summary import sections


def run_command(preset: str | None = None, *, flags: Flags = Flags(), tasks: TaskFlags = TaskFlags()) -> None:  # noqa: B008
    """Prepare, train, evaluate, export and report. The same command again resumes.

    Parameters
    ----------
    preset
        A preset's name, or a TOML file that begins with `base = "..."`. [modern]
    """
    with Screen(as_json=flags.json) as screen:
        recipe = resolve_recipe(preset, flags, screen)
        check_tasks(tasks)  # a missing task file is found before the budget is spent
        run = resolve_run(recipe, flags)
        with run.lock():
            data = prepare_room(recipe, run, screen)
            train_room(recipe, data, run, screen)
            evaluate_room(run, tasks, screen)
            export_room(run, screen)
            report_room(run, screen)


def prepare_command(preset: str | None = None, *, flags: Flags = Flags()) -> None:  # noqa: B008
    """Read the corpus, train the tokenizer, pack tokens.

    Parameters
    ----------
    preset
        A preset's name, or a TOML file that begins with `base = "..."`. [modern]
    """
    with Screen(as_json=flags.json) as screen:
        recipe = resolve_recipe(preset, flags, screen)
        run = resolve_run(recipe, flags)
        with run.lock():
            prepare_room(recipe, run, screen)


def train_command(preset: str | None = None, *, flags: Flags = Flags()) -> None:  # noqa: B008
    """Prepare if needed, and train until the budget is used.

    Parameters
    ----------
    preset
        A preset's name, or a TOML file that begins with `base = "..."`. [modern]
    """
    with Screen(as_json=flags.json) as screen:
        recipe = resolve_recipe(preset, flags, screen)
        run = resolve_run(recipe, flags)
        with run.lock():
            train_room(recipe, prepare_room(recipe, run, screen), run, screen)


def prepare_room(recipe: Recipe, run: RunDir, screen: Screen) -> PreparedData:
    """Open the run's data, prepared first if there is none, and claim its folder for the recipe."""
    screen.tell("run", folder=str(run.root), recipe=recipe.preset, size=recipe.size)
    data = run_data(recipe, run, cache_folder() / "data", screen)
    claim_run(run, recipe, environment(describe(pick_device())))  # only now: a misspelt corpus claims no folder
    return data


def train_room(recipe: Recipe, data: PreparedData, run: RunDir, screen: Screen) -> None:
    """Fit to the device, train within the budget, write the summary. A run that has its summary is finished."""
    if run.summary.exists() and "train" in read_json(run.summary):
        screen.tell("trained", already=True)
        return
    data.train.verify()  # every byte against its checksum, before the clock starts
    data.heldout.verify()
    device = pick_device()
    screen.budget_seconds = recipe.budget.seconds
    vocabulary = vocabulary_of(data.tokenizer)
    fitted = fit(
        recipe,
        device=device,
        make_learner=lambda: make_learner(recipe, vocab=vocabulary.size),
        vocabulary=vocabulary,
        heldout_rows=len(data.heldout),
        pinned=run.fit,
        cache=cache_folder() / "fit",
    )
    screen.tell(
        "fit",
        microbatch=fitted.microbatch,
        rows=fitted.rows,
        dtype=fitted.dtype,
        compiled=fitted.compiled,
        expected_tokens=fitted.expected_tokens,
    )
    for notice in fitted.notices:
        screen.tell("notice", message=notice)
    energy = EnergyMeter(device)
    progress, clock = train(recipe, data, run, fitted, device=device, tell=screen.tell)
    run.update_summary(**sections(recipe, data, run, fitted, progress, clock, energy))
    screen.tell("trained", steps=progress.step, tokens=progress.tokens, used_seconds=clock.used_seconds())
