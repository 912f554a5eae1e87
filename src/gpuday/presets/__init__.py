"""Presets: functions of size and budget that return a recipe; their docstrings hold command, device, time and score."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from gpuday.recipe import Recipe  # with torch, which the names of sizes and presets do without

Preset = Callable[[str, Budget], "Recipe"]


def names() -> list[str]:
    """Names of all presets: the modules of this folder that hold a function of their own name."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and m.name != "sizes")


def find(name: str) -> Preset:
    """The preset function called `name`, in which - and _ are one. Raises UsageError with the nearest match."""
    module = name.replace("-", "_")
    if module not in names():
        raise UsageError(f"no preset is called {name!r}", where="PRESET", fix=nearest(module, names()))
    preset: Preset = getattr(importlib.import_module(f"{__name__}.{module}"), module)
    return preset
