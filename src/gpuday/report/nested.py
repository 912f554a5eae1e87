"""A nested table, such as a recipe, as blocks of indented rows that a page can lay out side by side."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpuday.report import formats

DEEPEST = 8  # levels of nesting; a recipe has four
LONGEST = 400  # rows of one block
PART = "part"


@dataclass(frozen=True)
class Line:
    """One row: how deep it is indented, its key, its value, and whether that is the name of a part."""

    depth: int
    key: str
    value: str
    part: bool = False


@dataclass(frozen=True)
class Block:
    """The rows of one top-level key."""

    title: str
    lines: tuple[Line, ...]


def blocks(table: dict[str, Any], *, title: str) -> list[Block]:
    """A block named `title` of the plain values, then one of every nested table."""
    plain = {k: v for k, v in table.items() if not isinstance(v, dict)}
    nested = {k: v for k, v in table.items() if isinstance(v, dict)}
    first = [Block(title, _limited(_lines(plain, 0)))] if plain else []
    return first + [Block(formats.clean(str(k)), _limited(_block(v))) for k, v in nested.items()]


def _block(table: dict[str, Any]) -> Iterator[Line]:
    if PART in table:
        yield Line(0, PART, formats.text(table[PART]), part=True)
    yield from _lines({k: v for k, v in table.items() if k != PART}, 0)


def _lines(table: dict[str, Any], depth: int) -> Iterator[Line]:
    for key, value in table.items():
        name = formats.clean(str(key))
        if isinstance(value, dict) and depth < DEEPEST:
            yield Line(depth, name, formats.text(value.get(PART, "")) if PART in value else "", part=PART in value)
            yield from _lines({k: v for k, v in value.items() if k != PART}, depth + 1)
        elif _is_tables(value) and depth < DEEPEST:
            yield from _lines({f"{name} {i}": item for i, item in enumerate(value, 1)}, depth)
        else:
            yield Line(depth, name, _leaf(value))


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _leaf(value: Any) -> str:
    """Values as a recipe file writes them, so that the reader can copy one into `--set`."""
    if isinstance(value, dict | list):
        return formats.clean(json.dumps(value, ensure_ascii=False)) if value else "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else formats.text(value) if value != "" else '""'


def _limited(lines: Iterator[Line]) -> tuple[Line, ...]:
    found: list[Line] = []
    for line in lines:
        if len(found) == LONGEST:
            found.append(Line(0, "\N{HORIZONTAL ELLIPSIS}", "more in the file"))
            break
        found.append(line)
    return tuple(found)
