"""Every part of every kind keeps the contract of a part; a new file is enrolled by being there."""

import ast
import dataclasses
import importlib
import inspect
import itertools
import json
import re
from pathlib import Path

import pytest

from gpuday.core import config, parts
from gpuday.recipe import KINDS, Recipe

ROOT = Path(__file__).resolve().parents[2]
PARTS = [pytest.param(KINDS[k], name, id=f"{k}-{name}") for k in KINDS for name in parts.names(KINDS[k])]
PAPER = re.compile(r"\b(arXiv[: ]\d{4}\.\d{4,5}|(19|20)\d\d)\b")
WITHOUT_PAPER = {"source"}  # reading a file format is nobody's invention

every_part = pytest.mark.parametrize(("kind", "name"), PARTS)


def kind_name(kind: type) -> str:
    return next(name for name, known in KINDS.items() if known is kind)


def tree_of(cls: type) -> ast.Module:
    return ast.parse(Path(inspect.getfile(cls)).read_text(encoding="utf-8"))


def read_attributes(folder: Path) -> set[str]:
    """Every attribute name that any module below a folder reads."""
    nodes = (n for path in folder.rglob("*.py") for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}


def test_every_kind_is_in_the_table() -> None:
    """A kind that is not listed could not be swapped, tested or shown."""
    for name, kind in KINDS.items():
        assert parts.is_kind(kind), name
        assert kind.__name__.lower() == name
    ours = {k for k in parts.Part.__subclasses__() if k.__module__.startswith("gpuday.")}
    assert ours == set(KINDS.values())


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_has_a_part(kind: str) -> None:
    """An empty kind is an option that does nothing."""
    assert parts.names(KINDS[kind])


@every_part
def test_a_part_is_found_by_its_files_name(kind: type, name: str) -> None:
    """Each public module in a kind's folder holds exactly one part."""
    cls = parts.find(kind, name)
    assert parts.name_of(cls) == name
    assert issubclass(cls, kind)


@every_part
def test_a_part_is_a_frozen_value_with_defaults(kind: type, name: str) -> None:
    """It builds without arguments, equals its copy, and cannot be written into."""
    cls = parts.find(kind, name)
    part = cls()
    assert part == cls() == dataclasses.replace(part)
    assert hash(part) == hash(cls())
    for field in dataclasses.fields(cls):
        assert field.kw_only, field.name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, field.name, None)


@every_part
def test_a_part_survives_json(kind: type, name: str) -> None:
    """What recipe.json holds of a part builds the same part."""
    holder = dataclasses.make_dataclass("Holder", [("knob", kind)], frozen=True, kw_only=True)
    value = holder(knob=parts.find(kind, name)())
    back = config.from_dict(holder, json.loads(json.dumps(config.to_dict(value))))
    assert back == value
    assert config.fingerprint(back) == config.fingerprint(value)


@every_part
def test_a_part_says_what_it_is_and_where_it_is_from(kind: type, name: str) -> None:
    """The module's docstring explains the part and names its paper by number or year."""
    doc = ast.get_docstring(tree_of(parts.find(kind, name))) or ""
    assert len(doc.split()) >= 4
    if kind_name(kind) not in WITHOUT_PAPER:
        assert PAPER.search(doc), f"no paper in: {doc!r}"


@every_part
def test_every_knob_has_a_line_that_explains_it(kind: type, name: str) -> None:
    """The line stands under the field, where an editor shows it."""
    cls = parts.find(kind, name)
    body = next(n for n in tree_of(cls).body if isinstance(n, ast.ClassDef) and n.name == cls.__name__).body
    explained = {
        field.target.id
        for field, line in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
    }
    assert {f.name for f in dataclasses.fields(cls)} - explained == set()


@every_part
def test_every_knob_of_a_part_is_read(kind: type, name: str) -> None:
    """An option that nothing reads would be reported as an experiment without having been one."""
    cls = parts.find(kind, name)
    assert {f.name for f in dataclasses.fields(cls)} - read_attributes(Path(inspect.getfile(cls)).parent) == set()


@every_part
def test_a_part_is_final(kind: type, name: str) -> None:
    """No class derives from a part, and a part overrides nothing but what its kind leaves open."""
    cls = parts.find(kind, name)
    assert cls.__subclasses__() == []
    settled = {
        n
        for base in cls.__mro__[1:-1]
        for n, v in vars(base).items()
        if inspect.isfunction(v) and not n.startswith("__")
    } - set(kind.__abstractmethods__)
    assert settled & set(vars(cls)) == set()


def configs_within(cls: type) -> set[type]:
    """The config classes of a recipe that are no parts, found through the declared types."""
    found = {cls}
    for hint in (f.type for f in dataclasses.fields(cls)):
        if dataclasses.is_dataclass(hint) and not issubclass(hint, parts.Part):
            found |= configs_within(hint)
    return found


@pytest.mark.parametrize("cls", sorted(configs_within(Recipe), key=lambda c: c.__name__), ids=lambda c: c.__name__)
def test_every_value_of_a_recipe_is_read_somewhere(cls: type) -> None:
    """Not by the presets, which only set them."""
    package = ROOT / "src" / "gpuday"
    rooms = [p for p in package.iterdir() if p.is_dir() and p.name != "presets"]
    read = set().union(*map(read_attributes, rooms)) | read_attributes_of_modules(package)
    assert {f.name for f in dataclasses.fields(cls)} - read == set()


def read_attributes_of_modules(package: Path) -> set[str]:
    nodes = (n for path in package.glob("*.py") for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}


def test_the_folder_of_a_kind_is_a_package_that_defines_it() -> None:
    """`parts.names` reads the folder of the module in which the kind is written."""
    for kind in KINDS.values():
        assert hasattr(importlib.import_module(kind.__module__), "__path__"), kind
