"""Parts: found by their file, in the package or named by the user, and in no other way."""

import abc
import dataclasses
import importlib
import sys
import textwrap
from pathlib import Path

import pytest

from gpuday.core import parts
from gpuday.core.errors import UsageError

KIND = '''
import abc
from gpuday.core.parts import Part


class Rate(Part, abc.ABC):
    """A toy kind."""

    @abc.abstractmethod
    def __call__(self) -> float: ...
'''
LEAF = '''
from dataclasses import dataclass
from {package} import Rate


@dataclass(frozen=True, kw_only=True)
class {name}(Rate):
    """A toy part."""

    top: float = {top}

    def __call__(self) -> float:
        return self.top
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """A package of its own for each test: a kind, the parts `high` and `low`, and a private module."""
    name = f"toy_{abs(hash(request.node.nodeid))}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text(KIND)
    (folder / "high.py").write_text(LEAF.format(package=name, name="High", top=2.0))
    (folder / "low.py").write_text(LEAF.format(package=name, name="Low", top=1.0))
    (folder / "_shared.py").write_text("TWO = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(parts, "_user_files", {})
    yield importlib.import_module(name)
    for module in [m for m in sys.modules if m.partition(".")[0] == name or m.startswith("gpuday_part_")]:
        del sys.modules[module]


def user_file(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def test_a_module_of_the_package_is_a_part_without_being_registered(package) -> None:
    """A file in the folder is enough; private modules are none."""
    assert parts.names(package.Rate) == ["high", "low"]
    assert parts.find(package.Rate, "high")()() == 2.0


def test_listing_the_parts_imports_none_of_them(package) -> None:
    """`gpuday list` costs no import of a part's libraries."""
    parts.names(package.Rate)
    assert f"{package.__name__}.high" not in sys.modules


def test_a_name_leads_to_a_class_and_back(package) -> None:
    """What is written into recipe.json finds the same class."""
    for name in parts.names(package.Rate):
        assert parts.name_of(parts.find(package.Rate, name)) == name


def test_an_unknown_name_is_refused_with_the_nearest(package) -> None:
    """A misspelling is corrected, and the error says where it stands."""
    with pytest.raises(UsageError, match="no rate is called 'hihg'") as caught:
        parts.find(package.Rate, "hihg", where="recipe.schedule")
    assert caught.value.fix == "did you mean 'high'?"
    assert caught.value.where == "recipe.schedule"


@pytest.mark.parametrize(
    "name", ["os", "../high", "high.__init__", "", ".", "_shared", "__init__", "subprocess", "HIGH"]
)
def test_a_recipe_cannot_import_anything_else(package, name: str) -> None:
    """A name from a file is looked up among the parts and never handed to the import system."""
    before = set(sys.modules)
    with pytest.raises(UsageError, match="is called"):
        parts.find(package.Rate, name)
    assert set(sys.modules) == before


def test_a_kind_is_abstract_and_a_part_is_not(package) -> None:
    """Configs tell the two apart by this."""
    assert parts.is_kind(package.Rate)
    assert not parts.is_kind(parts.find(package.Rate, "high"))
    assert not parts.is_kind(parts.Part)
    assert not parts.is_kind(int)
    assert not parts.is_kind("high")
    assert not parts.is_kind(abc.ABC)


def test_a_file_with_two_parts_is_refused(package, tmp_path: Path) -> None:
    """One part, one file: the file's name could mean either."""
    leaf = LEAF.format(package=package.__name__, name="One", top=1.0)
    (tmp_path / package.__name__ / "both.py").write_text(leaf + leaf.replace("One", "Two"))
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match="holds 2 parts"):
        parts.find(package.Rate, "both")


def test_a_class_that_was_only_imported_does_not_count(package, tmp_path: Path) -> None:
    """A part may use another one without being it."""
    leaf = LEAF.format(package=package.__name__, name="Half", top=0.5)
    text = f"from {package.__name__}.high import High\n" + leaf
    (tmp_path / package.__name__ / "half.py").write_text(text)
    importlib.invalidate_caches()
    assert parts.find(package.Rate, "half").__name__ == "Half"


def test_a_users_file_is_a_part_like_any_other(package, tmp_path: Path) -> None:
    """It is listed, found and named by the file's stem."""
    path = user_file(tmp_path, LEAF.format(package=package.__name__, name="Mine", top=3.0))
    assert parts.add_file(path, [package.Rate]) == "rate mine"
    assert parts.names(package.Rate) == ["high", "low", "mine"]
    found = parts.find(package.Rate, "mine")
    assert found()() == 3.0
    assert parts.name_of(found) == "mine"
    assert dataclasses.replace(found(), top=4.0)() == 4.0


def test_a_users_file_is_matched_to_its_kind(package, tmp_path: Path) -> None:
    """Of the kinds offered, the one that the file subclasses is taken."""

    class Other(parts.Part, abc.ABC):
        @abc.abstractmethod
        def run(self) -> None: ...

    path = user_file(tmp_path, LEAF.format(package=package.__name__, name="Mine", top=3.0))
    assert parts.add_file(path, [Other, package.Rate]) == "rate mine"


def test_a_users_file_without_a_part_is_refused(package, tmp_path: Path) -> None:
    """The error names what could be subclassed."""
    with pytest.raises(UsageError, match="defines no part") as caught:
        parts.add_file(user_file(tmp_path, "x = 1"), [package.Rate])
    assert caught.value.fix == "subclass one of Rate"
    assert parts.names(package.Rate) == ["high", "low"]


@pytest.mark.parametrize("name", ["absent.py", "notes.txt", "folder"])
def test_what_is_no_python_file_is_never_executed(package, tmp_path: Path, name: str) -> None:
    """A missing file, a text file and a folder are refused by what they are."""
    (tmp_path / "notes.txt").write_text("raise SystemExit")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="not a Python file"):
        parts.add_file(tmp_path / name, [package.Rate])
