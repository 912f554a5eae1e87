"""From preset and flags to a recipe and its run directory."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from gpuday import presets
from gpuday.cli import habits
from gpuday.cli.flags import Flags
from gpuday.cli.screen import Screen
from gpuday.core import config, parts
from gpuday.core.clock import Budget
from gpuday.core.errors import GpudayError, UsageError, did_you_mean
from gpuday.core.rundir import RunDir, check_name, read_json, write_json
from gpuday.core.spelling import closest
from gpuday.data.corpus import parse_source
from gpuday.objectives import Learner
from gpuday.presets.sizes import auto_size, find_size
from gpuday.recipe import KINDS, Recipe
from gpuday.schedules import Schedule
from gpuday.train.assemble import make_learner
from gpuday.train.device import pick_device
from gpuday.train.trained import load_recipe

DEFAULT_BUDGET = "24h"
DEFAULT_PRESET = "modern"
MOST_DIFFERENCES = 8  # that an error names
LEAST_SECONDS = 1.0  # of a wall-clock budget
LONGEST_VALUE = 60  # characters of a value in them
LOGS = (".out", ".err", ".log", ".sh", ".sbatch", ".slurm", ".toml")
TOP_KEYS = [field.name for field in dataclasses.fields(Recipe)]


def know_parts(files: tuple[Path, ...], screen: Screen) -> None:
    """Make the parts in the user's own files known."""
    for file in files:
        screen.tell("part", known=parts.add_file(file, list(KINDS.values())))


def resolve_recipe(preset: str | None, flags: Flags, screen: Screen) -> Recipe:
    """The recipe that a preset's name, or a TOML file with a `base`, and the flags stand for."""
    know_parts(flags.part, screen)
    tables: dict[str, Any] = {}
    if preset is not None and (preset.endswith(".toml") or Path(preset).is_file()):
        tables = config.read_toml(Path(preset))
        name = tables.pop("base", None)
        if not isinstance(name, str):
            near = next((key for key in tables if key not in TOP_KEYS and closest(key, ["base"])), "")
            meant = f"write base instead of {near}" if near else f'begin it with base = "{DEFAULT_PRESET}"'
            raise UsageError(f"{preset} names no base", where=preset, fix=meant)
    else:
        name = DEFAULT_PRESET if preset is None else preset
    make = _find_preset(name, preset, in_file=name is not preset and preset is not None)
    wanted = tables.pop("budget", DEFAULT_BUDGET)
    text = wanted if flags.budget is None else flags.budget
    budget = config.from_dict(Budget, text, where="budget") if isinstance(text, dict) else Budget.parse(str(text))
    wanted = str(tables.pop("size", "auto"))
    size = wanted if flags.size is None else flags.size
    if budget.seconds is not None and budget.seconds < LEAST_SECONDS:
        raise UsageError(f"{budget.seconds:g} seconds are too few for a step", where="--budget", fix="give 1s or more")
    device = pick_device().type
    why = [f"the size for a budget of {text} on {device}"] if size == "auto" else []
    size = auto_size(device, budget) if size == "auto" else size
    find_size(size)  # an unknown one is refused before anything is announced
    if preset is None:
        why.insert(0, "the preset that is taken where none is given")
    if why:
        screen.tell("choice", preset=name, size=size, reason="; ".join(why))
    own = make(size, budget)
    with _at(str(preset), own):
        recipe = config.merge(own, tables)
    for key, value in _flagged(flags):
        recipe = config.replace_at(recipe, key, value)
    recipe = _with_sets(recipe, flags.set)
    if recipe.model.dropout not in (0.0, own.model.dropout) and not recipe.train.dropout:
        idle = f"model.dropout={recipe.model.dropout:g} drops nothing in pretraining: train.dropout=true switches it on"
        screen.tell("notice", message=idle)
    if budget.unit == "tokens" and budget.amount < recipe.data.length:
        raise UsageError(
            f"{budget.amount:g} tokens are less than one row, which has {recipe.data.length}",
            where="--budget",
            fix=f"give {recipe.data.length}tok or more",
        )
    return recipe


def _with_sets(recipe: Recipe, items: Sequence[str]) -> Recipe:
    """With every `--set` applied: a part before its knobs, and one that another must come before after it, since their
    order is no concern of a person. Of two with one key the later counts.

    Raises the first one's UsageError when none of those left can be applied.
    """
    waiting = sorted(items, key=lambda item: item.partition("=")[0].count("."))
    while waiting:
        refused: list[tuple[str, UsageError]] = []
        for item in waiting:
            try:
                recipe = _with_set(recipe, item)
            except UsageError as error:
                refused.append((item, error))
        if len(refused) == len(waiting):
            raise refused[0][1]
        waiting = [item for item, _ in refused]
    return recipe


def _with_set(recipe: Recipe, item: str) -> Recipe:
    key, equals, value = item.partition("=")
    if not equals:
        raise UsageError(f"{item!r} is not key=value", where="--set", fix="for example --set optimizer.lr=1e-3")
    if key.strip() in ("preset", "size", "budget"):
        asked = {"preset": "as the preset argument", "size": f"by --size {value}", "budget": f"by --budget {value}"}
        raise UsageError(f"{key.strip()} is a name, not a value", where="--set", fix=f"choose it {asked[key.strip()]}")
    with _at(f"--set {item}", recipe):
        return config.replace_at(recipe, key.strip(), _read(recipe, key.strip(), value.strip()))


def _read(recipe: Recipe, key: str, text: str) -> Any:
    """The value of a `--set`. Raises UsageError for a number where a schedule belongs: elsewhere the same word is a number."""
    value = config.parse_value(text)
    if isinstance(value, int | float) and isinstance(getattr(recipe, key, None), Schedule):
        meant = habits.key_meant(key, config.paths(recipe))
        over = f"{key} is how that changes over the budget: {key}=constant" if meant else f"for example {key}=constant"
        raise UsageError(f"{key} is a schedule, not a number", fix="; ".join(filter(None, (meant, over))))
    return value


def _find_preset(name: str, given: str | None, *, in_file: bool) -> presets.Preset:
    """The preset of a name; a path, a size or a budget in its place is told from a misspelt one."""
    try:
        return presets.find(name)
    except UsageError as error:
        if in_file:
            error.where = f"base, in {given}"
        elif there := habits.misplaced(name):
            error.fix = there
        elif Path(name).is_dir():
            error.fix = f"{name} is a folder; to go on with a run, give the command that began it"
        elif near := closest(name.strip(), [f for f in os.listdir() if f.endswith(".toml")]):
            error.fix = did_you_mean([repr(f) for f in near])
        raise


@contextlib.contextmanager
def _at(place: str, recipe: Recipe | None = None) -> Iterator[None]:
    """Errors about keys and values also say in which file, or in which --set, they stand; keys of the `recipe` are named."""
    try:
        yield
    except config.UnknownKey as error:
        meant = habits.key_meant(error.key, [] if recipe is None else config.paths(recipe))
        circular = meant.partition(",")[0].endswith(f" {error.key}")  # what was asked for: another part has that key
        fix = error.fix if error.found or circular else meant or error.fix
        raise UsageError(error.what, where=place, fix=fix) from error
    except UsageError as error:
        error.where = error.where or place
        raise


def resolve_run(recipe: Recipe, flags: Flags) -> RunDir:
    """The run's directory; refused with the differences when it holds another recipe."""
    fingerprint = config.fingerprint(recipe)
    if flags.out is None:
        amount = f"{recipe.budget.amount:g}{recipe.budget.unit}"
        root = Path("runs") / check_name(f"{recipe.preset}-{recipe.size}-{amount}-{fingerprint[:8]}".replace("+", ""))
    else:
        root = flags.out
        with _at("--out"):
            check_name(root.name or str(root))
        _refuse_others(root)
    for source in (*recipe.data.corpus, *recipe.data.heldout):
        with _at("--corpus, --heldout"):
            parse_source(source)
        if os.path.isdir(source) and (
            root.resolve() == Path(source).resolve() or Path(source).resolve() in root.resolve().parents
        ):
            raise UsageError(
                f"{root} lies inside the corpus {source}: what a run writes there would be read as text",
                where="--out",
                fix="give a folder outside of the corpus",
            )
    run = RunDir(root)
    there = None
    with contextlib.suppress(GpudayError):  # what is gone or damaged is mended from the checkpoints, behind the lock
        there = load_recipe(run)
    if there is not None and (rows := config.differences(there, recipe)):
        shown = [f"{key}: {_brief(old)} there, {_brief(new)} asked" for key, old, new in rows[:MOST_DIFFERENCES]]
        if (more := len(rows) - len(shown)) > 0:
            shown.append(f"and {more} more")
        raise UsageError(
            "\n".join([f"{root} holds a run of another recipe", *shown]),
            where="--out",
            fix="give another --out, or the same flags",
        )
    return run


def _refuse_others(root: Path) -> None:
    """A folder that holds something else is no run's: neither should write between the other's files."""
    run = RunDir(root)
    if run.recipe.exists() or not root.is_dir():
        return
    files = (run.environment, run.journal, run.fit, run.heartbeat, run.summary, run.report)
    own = {*files, run.data, run.checkpoints, run.model, run.scores}
    foreign = (p for p in root.iterdir() if p not in own and not p.name.startswith("."))
    if others := sorted(p.name for p in foreign if not _is_log(p)):
        raise UsageError(
            f"{root} holds {', '.join(others[:3])}{' and more' if len(others) > 3 else ''}, which is no run's",
            where="--out",
            fix=f"give a folder of its own, such as {root / 'run'}",
        )


def _is_log(path: Path) -> bool:
    """Whether a file is what schedulers and shells put beside a run: its output, its script, its recipe."""
    if not path.is_file():
        return False
    return path.suffix in LOGS or path.name.endswith("log.txt") or any(_is_stream(path, stream) for stream in (1, 2))


def _is_stream(path: Path, stream: int) -> bool:
    """Whether this very command writes its output there."""
    with contextlib.suppress(OSError):  # a stream may be closed
        return os.path.samestat(path.stat(), os.fstat(stream))
    return False


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def check_model(recipe: Recipe) -> Learner:
    """Make the model without memory, so that widths that do not go together are found before anything is spent."""
    with torch.device("meta"), _at("model"):
        return make_learner(recipe, vocab=recipe.data.vocab)


def claim_run(run: RunDir, recipe: Recipe, environment: dict[str, Any]) -> None:
    """Write the recipe of a new run, and add this command's environment to the list."""
    if not run.recipe.exists():
        write_json(run.recipe, config.to_dict(recipe))
    seen: list[Any] = read_json(run.environment)["attempts"] if run.environment.exists() else []
    if not seen or seen[-1] != environment:
        write_json(run.environment, {"attempts": [*seen, environment]})


def _flagged(flags: Flags) -> list[tuple[str, Any]]:
    """Recipe keys and values of the flags that were given."""
    given: list[tuple[str, Any]] = [
        ("data.documents", flags.documents),
        ("data.tokenizer", flags.tokenizer),
        ("data.vocab", flags.vocab),
        ("seed", flags.seed),
    ]
    rows = [(key, value) for key, value in given if value is not None]
    lists = (("data.corpus", flags.corpus), ("data.heldout", flags.heldout))
    return rows + [(key, list(values)) for key, values in lists if values]
