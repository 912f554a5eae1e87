"""From preset and flags to a recipe and its run directory."""

from pathlib import Path
from typing import Any

from gpuday import presets
from gpuday.cli.flags import Flags
from gpuday.cli.screen import Screen
from gpuday.core import config, parts
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.core.rundir import RunDir, check_name, read_json, write_json
from gpuday.presets.sizes import auto_size, find_size
from gpuday.recipe import KINDS, Recipe
from gpuday.train.device import pick_device
from gpuday.train.trained import load_recipe

DEFAULT_BUDGET = "24h"
DEFAULT_PRESET = "modern"


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
            raise UsageError(f"{preset} names no base", fix=f'begin it with base = "{DEFAULT_PRESET}"')
    else:
        name = preset or DEFAULT_PRESET
    make = presets.find(name)
    text = flags.budget or tables.pop("budget", None) or DEFAULT_BUDGET
    tables.pop("budget", None)  # the flag wins over the file
    budget = Budget.parse(text) if isinstance(text, str) else config.from_dict(Budget, text, where="budget")
    size = flags.size or tables.pop("size", None) or "auto"
    tables.pop("size", None)
    chosen = preset is None or size == "auto"
    device = pick_device().type
    size = auto_size(device, budget) if size == "auto" else size
    find_size(size)  # an unknown one is refused before anything is announced
    if chosen:
        screen.tell("choice", preset=name, size=size, reason=f"for a budget of {text} on {device}")
    recipe = config.merge(make(size, budget), tables)
    for key, value in _flagged(flags):
        recipe = config.replace_at(recipe, key, value)
    for item in flags.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"{item!r} is not key=value", where="--set", fix="for example --set optimizer.lr=1e-3")
        if key.strip() in ("preset", "size"):
            raise UsageError(
                f"{key.strip()} is a name, not a value", where="--set", fix="choose it by the preset argument or --size"
            )
        recipe = config.replace_at(recipe, key.strip(), config.parse_value(value.strip()))
    return recipe


def resolve_run(recipe: Recipe, flags: Flags) -> RunDir:
    """The run's directory; refused with the differences when it holds another recipe."""
    fingerprint = config.fingerprint(recipe)
    if flags.out is None:
        amount = f"{recipe.budget.amount:g}{recipe.budget.unit}"
        root = Path("runs") / check_name(f"{recipe.preset}-{recipe.size}-{amount}-{fingerprint[:8]}".replace("+", ""))
    else:
        root = flags.out
        check_name(root.name)
    for source in (*recipe.data.corpus, *recipe.data.heldout):
        if Path(source).is_dir() and (
            root.resolve() == Path(source).resolve() or Path(source).resolve() in root.resolve().parents
        ):
            raise UsageError(
                f"{root} lies inside the corpus {source}: what a run writes there would be read as text",
                where="--out",
                fix="give a folder outside of the corpus",
            )
    run = RunDir(root)
    if run.recipe.exists():
        there = load_recipe(run)
        if rows := config.differences(there, recipe):
            shown = "; ".join(f"{key}: {old!r} there, {new!r} asked" for key, old, new in rows[:8])
            raise UsageError(
                f"{root} holds a run of another recipe: {shown}",
                where="--out",
                fix="give another --out, or the same flags",
            )
    return run


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
