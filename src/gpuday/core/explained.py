"""What parts and configs say of themselves: summary, papers, and the knobs with their defaults and their lines.

A field is explained by the string that stands under it, which only the source file has; it is read, not run.
"""

import ast
import dataclasses
import functools
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from gpuday.core import config, parts

# A number of arXiv, or a work without one: whose it is, its title or place perhaps, and the year.
WORK = re.compile(
    r"""arXiv[: ](?P<number>\d{4}\.\d{4,5})
    | (?P<who>[A-Z][\w'-]*[a-z] (?:\ et\ al\.|\ &\ [A-Z][\w'-]+)?) ,?\ (?:"[^"]*")? (?:(?!arXiv)[^()";\d]){0,40}? [(]?
      (?P<year>(?:19|20)\d\d)\b (?!\.\d)""",
    re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A field of a config."""

    name: str
    default: Any
    """As the config has it without being told; None where it must be told."""
    values: tuple[Any, ...]
    """What it can be, where that is a list: the options of a Literal, no and yes, the names of the parts; else empty."""
    type: str
    """What it is, for a reader: `number`, `whole number`, `text`, `choice`, `yes or no`, `part`, `table`, `list`."""
    what: str
    """Its explanation, on one line."""


def summary(thing: object) -> str:
    """The first sentence of its own docstring."""
    first, *_ = inspect.cleandoc(thing.__doc__ or "").split("\n\n")
    return re.split(r"(?<=\.)(?<!al\.)(?<!e\.g\.) ", " ".join(first.split()), maxsplit=1)[0]


def papers(cls: type) -> tuple[str, ...]:
    """The works that the docstring of its module names."""
    return papers_in(inspect.getdoc(inspect.getmodule(cls)) or "")


def papers_in(text: str) -> tuple[str, ...]:
    """The works that a text names, each once and in order: arXiv numbers, and name and year of others."""
    matches = WORK.finditer(" ".join(text.split()))
    return tuple(dict.fromkeys(f"arXiv {m['number']}" if m["number"] else f"{m['who']} {m['year']}" for m in matches))


def knobs(cls: type) -> list[Knob]:
    """The fields of a config in their order."""
    hints, lines = typing.get_type_hints(cls), _lines(cls)
    return [
        Knob(
            name=field.name,
            default=None if field.default is dataclasses.MISSING else field.default,
            values=values_of(hints[field.name]),
            type=_type(hints[field.name]),
            what=lines.get(field.name, ""),
        )
        for field in dataclasses.fields(typing.cast(Any, cls))
    ]


def settings(cls: type, *, where: str = "", instance: Any = None) -> Iterator[Knob]:
    """The fields of a config by their whole keys below `where`, and after each the fields of the config that it holds by
    default, with the defaults that they have there. A table has no line of its own: its values are set one by one."""
    for knob in knobs(cls):
        default = knob.default if instance is None else getattr(instance, knob.name)
        key = f"{where}.{knob.name}" if where else knob.name
        if knob.type != "table":
            yield replace(knob, name=key, default=default)
        if dataclasses.is_dataclass(default):
            yield from settings(type(default), where=key, instance=default)


def slots(cls: type, *, where: str = "") -> Iterator[tuple[str, type[parts.Part], bool]]:
    """(key, kind, whether it holds a list of them) of each place of a config where any part of a kind may stand."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(typing.cast(Any, cls)):
        key, hint = f"{where}.{field.name}" if where else field.name, hints[field.name]
        several = typing.get_origin(hint) is tuple
        kind = typing.get_args(hint)[0] if several else hint
        if parts.is_kind(kind):
            yield key, kind, several
        elif dataclasses.is_dataclass(kind) and not issubclass(typing.cast(type, kind), parts.Part):
            yield from slots(typing.cast(type, kind), where=key)


def written(value: Any) -> str:
    """A plain value as it stands behind `--set key=`: TOML on one line, a word without quotes."""
    return value if isinstance(value, str) else _inline(value)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(inner)}" for key, inner in value.items()) + "}"
    return f"[{', '.join(map(_inline, value))}]" if isinstance(value, list) else json.dumps(value)


def values_of(hint: Any) -> tuple[Any, ...]:
    """What a field of this type can be, where that is a list that ends."""
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    if hint is bool:
        return (False, True)
    return tuple(parts.names(hint)) if parts.is_kind(hint) else ()


def plain(value: Any) -> Any:
    """A default for a table: a part by its name, another config and a tuple by what they hold."""
    return parts.name_of(type(value)) if isinstance(value, parts.Part) else config.to_dict(value)


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "choice"
    if parts.is_kind(hint) or (inspect.isclass(hint) and issubclass(hint, parts.Part)):
        return "part"
    if typing.get_origin(hint) is tuple:
        return "list"
    if dataclasses.is_dataclass(hint):
        return "table"
    return {bool: "yes or no", int: "whole number", float: "number", str: "text"}.get(hint, str(hint))


@functools.cache
def _lines(cls: type) -> dict[str, str]:
    """The string under each field, by field, of the class and of those that it inherits fields from."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        for field, line in zip(body := typing.cast(ast.ClassDef, tree.body[0]).body, body[1:], strict=False):
            named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if named and isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
                found[field.target.id] = " ".join(str(line.value.value).split())  # type: ignore[attr-defined]
    return found
