"""Parts: an optimizer, a schedule, a filter, ... is one file in the folder of its kind, and needs no registry line.

A *kind* is an abstract class defined in a package's `__init__` (`gpuday.optim.Optimizer`). A *part* is the one concrete
subclass in a module of that package; the module's name is the part's name. Nothing is imported because a recipe names
it, unless a module of that name ships in the package or the user gave the file on the command line (`add_file`).
"""

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from gpuday.core.absent import why_absent
from gpuday.core.errors import UsageError, nearest


class Part:
    """Base of every kind. A kind is abstract, a part is final: no part is subclassed."""


_user_files: dict[tuple[str, str], type[Part]] = {}


def is_kind(cls: Any) -> bool:
    """True for the abstract class of a kind, False for a concrete part and for everything else."""
    return inspect.isclass(cls) and issubclass(cls, Part) and inspect.isabstract(cls)


def names(kind: type[Part]) -> list[str]:
    """Names of all parts of a kind, sorted: the modules of its package, and the user's own files."""
    package = importlib.import_module(kind.__module__)
    shipped = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    return sorted({*shipped, *(name for owner, name in _user_files if owner == kind.__module__)})


def find(kind: type[Part], name: str, *, where: str = "") -> type[Any]:
    """The part called `name` of a kind. Raises UsageError with the nearest match for an unknown name."""
    if (kind.__module__, name) in _user_files:
        return _user_files[kind.__module__, name]
    if name not in names(kind):
        raise UsageError(f"no {kind.__name__.lower()} is called {name!r}", where=where, fix=nearest(name, names(kind)))
    return _leaf(kind, importlib.import_module(f"{kind.__module__}.{name}"))


def name_of(part: type[Any]) -> str:
    """The name under which `find` gives this part."""
    for (_, name), known in _user_files.items():
        if known is part:
            return name
    return part.__module__.rpartition(".")[2]


def add_file(path: Path, kinds: list[type[Part]]) -> str:
    """Make the part in a user's own Python file known under the file's stem; returns 'kind name'.

    Only called for files that the user named on the command line: the file is executed.
    """
    if not path.is_file() or path.suffix != ".py":
        fix = "give the path of one .py file" if path.exists() else why_absent(str(path))
        raise UsageError(f"{path} is not a Python file", where="--part", fix=fix)
    spec = importlib.util.spec_from_file_location(f"gpuday_part_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UsageError(f"{path} is not valid Python: {error}", where="--part", fix="mend that line") from error
    except (Exception, SystemExit) as error:  # whatever a person's own file does wrong is theirs to mend
        last = next(
            (f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == spec.origin), 0
        )
        raise UsageError(
            f"{path} cannot be imported: {type(error).__name__}: {error}",
            where=f"--part, {path}:{last}",
            fix="mend that line; --debug shows the traceback",
        ) from error
    for kind in kinds:
        if _leaves(kind, module):
            if path.stem in names(kind):
                raise UsageError(
                    f"a {kind.__name__.lower()} called {path.stem!r} ships already",
                    where="--part",
                    fix="rename the file",
                )
            _user_files[kind.__module__, path.stem] = _leaf(kind, module)
            return f"{kind.__name__.lower()} {path.stem}"
    known = ", ".join(kind.__name__ for kind in kinds)
    raise UsageError(f"{path} defines no part", where="--part", fix=f"subclass one of {known}")


def _leaves(kind: type[Part], module: ModuleType) -> list[type[Any]]:
    own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    return [c for c in own if issubclass(c, kind) and not inspect.isabstract(c)]


def _leaf(kind: type[Part], module: ModuleType) -> type[Any]:
    found = _leaves(kind, module)
    if len(found) != 1:
        raise UsageError(
            f"{Path(str(module.__file__)).name} holds {len(found)} parts of kind {kind.__name__}, not one",
            where=str(module.__file__),
            fix="one part, one file",
        )
    return found[0]
