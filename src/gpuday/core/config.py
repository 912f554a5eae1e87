"""Strict frozen configs: dataclasses to JSON and back, TOML overrides, fingerprints.

A config is a `@dataclass(frozen=True, kw_only=True)` whose fields are bool, int, float, str, None, Literal, tuples,
other configs, or a *kind* of part (see `core.parts`): the last is written as its name in `part` beside its own knobs.
Unknown keys are refused with the nearest match, and no value is ever converted but int to float.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from gpuday.core import parts
from gpuday.core.absent import why_absent
from gpuday.core.errors import UsageError, did_you_mean, nearest
from gpuday.core.spelling import closest

T = TypeVar("T")
PART = "part"
MAX_BYTES = 1 << 20  # a recipe is a few KB; anything near this is not one
MOST = 10**100  # Python refuses to write integers of thousands of digits
SHOWN = 200  # characters of a value in an error
MEANT = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


class UnknownKey(UsageError):
    """A key that the config does not have; `key` is its path as it was given, `found` whether the fix holds its very name."""

    def __init__(self, key: str, *, fix: str, found: bool = False) -> None:
        super().__init__(f"unknown key {_shown(key)}", fix=fix)
        self.key, self.found = key, found


def to_dict(value: Any) -> Any:
    """Plain JSON values for a config, parts tagged with their name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value))
        plain = {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        # A whole number given for a float in Python is the same config as the float.
        plain = {k: float(v) if hints[k] is float and type(v) is int else v for k, v in plain.items()}
        return {PART: parts.name_of(type(value)), **plain} if isinstance(value, parts.Part) else plain
    return [to_dict(v) for v in value] if isinstance(value, tuple) else value


def from_dict(cls: type[T], data: Any, *, where: str = "") -> T:
    """A config of type `cls` from plain values. Raises UsageError naming the key for anything that does not fit."""
    return typing.cast(T, _convert(cls, data, where or cls.__name__))


def fingerprint(value: Any) -> str:
    """16 hex digits of the canonical JSON of a config or of plain JSON values; equal across processes and machines."""
    text = json.dumps(to_dict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def merge(value: T, overrides: dict[str, Any], *, where: str = "") -> T:
    """A copy of a config with some values replaced; nested tables change only what they name.

    A table for a part that names another `part`, or a bare string, starts from that other part's defaults.
    """
    if _renames(value, overrides):
        raise UsageError(f"{where or 'this'} cannot become another part", fix="replace it in what holds it")
    fields = [f.name for f in dataclasses.fields(typing.cast(Any, value))]
    hints = typing.get_type_hints(type(value))
    changes: dict[str, Any] = {}
    for key, new in overrides.items():
        if key == PART and isinstance(value, parts.Part):
            continue
        at = f"{where}.{key}" if where else key
        if key not in fields:
            raise _unknown(value, key, new, where)
        old = getattr(value, key)
        if isinstance(new, dict) and isinstance(old, bool | int | float | str):
            raise UnknownKey(
                _innermost(at, new), fix=f"{at} is one value, now {old!r}, and holds no others", found=True
            )
        if isinstance(new, dict) and dataclasses.is_dataclass(old) and not _renames(old, new):
            changes[key] = merge(typing.cast(Any, old), new, where=at)
        else:
            changes[key] = _convert(hints[key], new, at)
    with _placed(fields, where):
        return typing.cast(T, dataclasses.replace(typing.cast(Any, value), **changes))


def replace_at(value: T, path: str, new: Any) -> T:
    """A copy with the value at a dotted path replaced: `replace_at(recipe, "optimizer.lr", 1e-3)`."""
    nested: Any = new
    for key in reversed(path.split(".")):
        nested = {key: nested}
    return merge(value, nested)


def differences(a: Any, b: Any, *, where: str = "") -> list[tuple[str, Any, Any]]:
    """(path, a's value, b's value) of every leaf in which two configs' plain values differ."""
    a, b = to_dict(a), to_dict(b)
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return [] if a == b else [(where, a, b)]
    rows = [(k, a.get(k), b.get(k)) for k in {**a, **b}]
    return [d for k, x, y in rows for d in differences(x, y, where=f"{where}.{k}" if where else k)]


def paths(value: Any, *, where: str = "") -> list[str]:
    """The dotted path of every value, every table and every part's name in a config."""
    if not dataclasses.is_dataclass(value):
        return []
    found = [f"{where}.{PART}"] if where and isinstance(value, parts.Part) else []
    for field in dataclasses.fields(value):
        at = f"{where}.{field.name}" if where else field.name
        found += [at, *paths(getattr(value, field.name), where=at)]
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises UsageError with line and column for a file that is not TOML."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        fix = "check that it is a file you may read" if path.exists() else why_absent(str(path))
        raise UsageError(f"cannot read {path}: {error.strerror}", fix=fix) from error
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{path} has {len(raw):,} bytes; a recipe has at most {MAX_BYTES:,}", fix="is this a recipe?")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))  # with the mark that some editors put before the text
    except (ValueError, RecursionError) as error:  # TOML, UTF-8, and integers of thousands of digits
        fix = "mend the line named above"
        if raw.lstrip()[:1] == b"{" or path.suffix in (".yaml", ".yml"):
            fix = 'a recipe is TOML: begin it with base = "modern", then tables such as [optimizer] with lr = 1e-3'
        raise UsageError(f"{path} is not valid TOML: {error}", fix=fix) from error


def parse_value(text: str) -> Any:
    """A command line's `key=value` value, read as TOML; a bare word is a string (`adamw`, `10m`)."""
    try:
        return text if "\n" in text else tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # also raised for integers of thousands of digits
        return text


def _innermost(path: str, value: Any) -> str:
    """The path to where tables of a single key end: `a` and {b: {c: 1}} is a.b.c."""
    while isinstance(value, dict) and len(value) == 1:
        ((key, value),) = value.items()
        path = f"{path}.{key}"
    return path


def _unknown(value: Any, key: str, new: Any, where: str) -> UnknownKey:
    """The error for a key that a config lacks, with the path below it that is nearest to what was given."""
    prefix, typed = f"{where}." if where else "", _innermost(key, new)
    known = [*paths(value), *([PART] if isinstance(value, parts.Part) else [])]
    near = closest(typed, known)
    others = near or closest(typed.rpartition(".")[2], known)
    fields = [f"{prefix}{field.name}" for field in dataclasses.fields(value)]
    fix = did_you_mean([repr(prefix + name) for name in others]) or f"known: {', '.join(sorted(fields))}"
    last = typed.rpartition(".")[2]
    return UnknownKey(prefix + typed, fix=fix, found=any(name.rpartition(".")[2] == last for name in near))


def _renames(old: Any, new: dict[str, Any]) -> bool:
    return isinstance(old, parts.Part) and PART in new and new[PART] != parts.name_of(type(old))


def _convert(hint: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(hint, data, where)
    if origin is Literal:
        if not any(data == o and type(data) is type(o) for o in typing.get_args(hint)):
            options = [str(o) for o in typing.get_args(hint)]
            near = did_you_mean([repr(o) for o in closest(data, options)]) if isinstance(data, str) else ""
            fix = f"{near} (one of {', '.join(options)})" if near else f"give one of {', '.join(options)}"
            raise UsageError(f"{where} is {_shown(data)}", where=where, fix=fix)
        return data
    if origin is tuple:
        return _convert_tuple(hint, data, where)
    if parts.is_kind(hint):
        return _convert_part(hint, data, where)
    if dataclasses.is_dataclass(hint):
        return _convert_dataclass(hint, data, where)
    if hint is float and type(data) in (int, float):
        return _convert_float(data, where)
    if hint is int and type(data) is int and not -MOST <= data <= MOST:
        raise UsageError(f"{where} is a number of more than 100 digits", fix="give a smaller one")
    if hint in (bool, int, float, str) and type(data) is hint:
        return data
    if hint is type(None) and data is None:
        return None
    wanted = getattr(hint, "__name__", str(hint))
    fix = _written_rightly(hint, data) or f"give {MEANT.get(hint, wanted)}"
    raise UsageError(f"{where} is {_shown(data)} ({type(data).__name__}), not {wanted}", fix=fix)


def _written_rightly(hint: Any, data: Any) -> str:
    """How a value that only has the wrong form is to be written; empty for any other."""
    if isinstance(data, str) and hint in (bool, int, float):
        if re.search(r",[0-9]{3}(?![0-9])", data):
            return ""  # 1,000 is a thousand or one
        plain = data.strip().lower().replace(",", ".")
        plain = f"0{plain}" if plain.startswith(".") else plain
        read = parse_value(plain)
        fits = type(read) is hint or (hint is float and type(read) is int)
        if not fits or len(plain) > 100 or not math.isfinite(read):
            return ""
        return f"write {plain}" + (", without quotes" if parse_value(data.strip()) == read else "")
    if hint is int and isinstance(data, float) and data.is_integer() and abs(data) < 1e15:
        return f"write {int(data)}"
    return ""


def _shown(data: Any) -> str:
    """A value as an error shows it: the beginning of one that is long, the type of one that cannot be written."""
    try:
        text = repr(data)
    except (ValueError, RecursionError):  # integers of thousands of digits, and lists a thousand deep
        return f"a value of type {type(data).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _written(data: Any) -> str:
    """A value as TOML writes it, for those that it can."""
    text = _shown(data)
    return json.dumps(data) if isinstance(data, str) and len(text) < SHOWN else text


def _convert_float(data: float, where: str) -> float:
    try:
        number = float(data)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UsageError(f"{where} is not a finite number", fix="give one such as 1e-3")
    return number


def _convert_union(hint: Any, data: Any, where: str) -> Any:
    options = typing.get_args(hint)
    if data is None and type(None) in options:
        return None
    rest = [o for o in options if o is not type(None)]
    for option in rest[:-1]:
        try:
            return _convert(option, data, where)
        except UsageError:
            continue  # the last option's error is the one that is shown
    return _convert(rest[-1], data, where)


def _convert_tuple(hint: Any, data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise UsageError(f"{where} is {_shown(data)}, not a list", fix=f"write [{_written(data)}]")
    args = typing.get_args(hint)
    inner = [args[0]] * len(data) if args[-1] is Ellipsis else list(args)
    if len(inner) != len(data):
        raise UsageError(f"{where} has {len(data)} values, not {len(inner)}", fix="give exactly that many")
    return tuple(_convert(t, v, f"{where}[{i}]") for i, (t, v) in enumerate(zip(inner, data, strict=True)))


def _convert_part(kind: Any, data: Any, where: str) -> Any:
    if isinstance(data, str):
        data = {PART: data}
    if not isinstance(data, dict) or not isinstance(data.get(PART), str):
        raise UsageError(f"{where} names no part", fix=f'write {where} = {{ part = "{parts.names(kind)[0]}", ... }}')
    return _convert_dataclass(parts.find(kind, data[PART], where=where), data, where)


def _convert_dataclass(cls: Any, data: Any, where: str) -> Any:
    if isinstance(data, cls):
        return data
    if not isinstance(data, dict):
        names = ", ".join(f"{where}.{field.name}" for field in dataclasses.fields(cls))
        raise UsageError(f"{where} is {_shown(data)}, not a table", fix=f"give one of its values: {names}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if issubclass(cls, parts.Part) and PART in data:  # a field whose type is one part: the name must be that part's
        if data[PART] != parts.name_of(cls):
            raise UsageError(f"{where} is {_shown(data[PART])}", fix=f"only {parts.name_of(cls)!r} fits here")
        data = {k: v for k, v in data.items() if k != PART}
    for key in data:
        if key not in fields:
            raise UnknownKey(f"{where}.{key}", fix=nearest(str(key), fields))
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise UsageError(f"{where}.{name} is missing", fix=f"add {name}")
    values = {k: _convert(hints[k], v, f"{where}.{k}") for k, v in data.items()}
    with _placed(fields, where):
        return cls(**values)


@contextlib.contextmanager
def _placed(fields: Iterable[str], where: str) -> Iterator[None]:
    """A part does not know where in a config it stands: what it says of a field of its own gets the whole path."""
    try:
        yield
    except UsageError as error:
        if where and error.where in fields:
            error.where = f"{where}.{error.where}"
        raise
