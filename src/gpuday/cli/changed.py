"""What a run's recipe changes of the preset that it names, as this version has that preset."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

from gpuday import presets
from gpuday.core import config, parts
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.core.explained import written

NAMED = ("preset", "size", "budget")  # what the preset is made from


def changed(recipe: dict[str, Any]) -> list[str] | None:
    """`key=value` for each value of a `recipe.json` that the preset has not, as `--set` takes it; None for a recipe whose
    preset, size or budget this version does not know.

    Of another part, its name and what is not its default. A key that the file lacks is newer than the run: it had no part
    in it.
    """
    try:
        budget = config.from_dict(Budget, recipe.get("budget"))
        own = presets.find(str(recipe.get("preset")))(str(recipe.get("size")), budget)
        there = {key: value for key, value in recipe.items() if key not in NAMED}
        return [f"{key}={written(value)}" for key, value in _changes(own, there, "")]
    except (UsageError, RecursionError):  # a file may hold a thousand lists in one another
        return None


def _changes(own: Any, there: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """(key, value there) of what differs from a config."""
    hints, plain = typing.get_type_hints(type(own)), config.to_dict(own)
    for name, value in there.items():
        if name == config.PART or (name in plain and plain[name] == value):
            continue
        key, mine = f"{where}.{name}" if where else name, getattr(own, name) if name in plain else None
        table, is_part = isinstance(value, dict) and dataclasses.is_dataclass(mine), isinstance(mine, parts.Part)
        if not table:
            yield key, value
        elif not is_part or plain[name][config.PART] == value.get(config.PART):
            yield from _changes(mine, value, key)
        else:
            yield key, value.get(config.PART)
            yield from _beside(hints[name], value, key)


def _beside(kind: type[parts.Part], there: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """What a part that stands in a recipe has beside its defaults; of one that is not known here, all of its knobs."""
    name = there.get(config.PART)
    if isinstance(name, str) and parts.is_kind(kind) and name in parts.names(kind):
        yield from _changes(parts.find(kind, name)(), there, where)
    else:
        yield from ((f"{where}.{knob}", value) for knob, value in there.items() if knob != config.PART)
