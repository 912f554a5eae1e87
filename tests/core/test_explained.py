"""What parts say of themselves is read from their source as it is written there."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest

from gpuday.core import explained
from gpuday.core.config import parse_value
from gpuday.core.explained import Knob
from gpuday.schedules import Schedule
from gpuday.schedules.ramp import Ramp
from loading import load

MODULE = """
'''A way of its own (Someone & Other, "On the way", 1999), after Newton et al. (arXiv 1234.56789 and arXiv:2003.10555).

Not 2002.05202 without its archive, nor ACL 2020, but Adams et al., Proc. of 1987, and arXiv 1234.56789 again.
'''
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Older:
    first: int = 1
    \"\"\"Of the older
    one.\"\"\"


@dataclass(frozen=True, kw_only=True)
class Newer(Older):
    \"\"\"It does this, as Newton et al. did. It does
    that too.

    And more.
    \"\"\"

    second: float = 0.5
    \"\"\"Of the newer one.\"\"\"
    third: str = ""
"""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Fields of every type."""

    needed: int
    """One without a default."""
    way: Literal["a", "b"] = "a"
    """A choice."""
    on: bool = True
    """A switch."""
    schedule: Schedule = Ramp()
    """Any part of a kind."""
    ramp: Ramp = Ramp()
    """One part."""
    pairs: tuple[tuple[int, int], ...] = ((1, 2),)
    """A list."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Tables and lists of parts."""

    holder: Holder = Holder(needed=3, ramp=Ramp(start=0.25))
    """A table."""
    many: tuple[Schedule, ...] = ()
    """Several of a kind."""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    """The module above, from a file."""
    path = tmp_path / "way.py"
    path.write_text(MODULE)
    yield (made := load(path))
    del sys.modules[made.__name__]


def test_papers_are_those_that_the_modules_docstring_names(module: ModuleType) -> None:
    """Each once and in order: by number where arXiv has one, else by name and year; other numbers are none."""
    wanted = ("Someone & Other 1999", "arXiv 1234.56789", "arXiv 2003.10555", "Adams et al. 1987")
    assert explained.papers(module.Newer) == wanted


def test_a_summary_is_the_first_sentence(module: ModuleType) -> None:
    """On one line however it is wrapped; an abbreviation does not end it."""
    assert explained.summary(module.Newer) == "It does this, as Newton et al. did."


def test_a_field_is_explained_by_the_string_under_it(module: ModuleType) -> None:
    """Inherited ones by the class that has them, on one line; one without a string by nothing."""
    found = {knob.name: knob.what for knob in explained.knobs(module.Newer)}
    assert found == {"first": "Of the older one.", "second": "Of the newer one.", "third": ""}


def test_a_knob_says_what_it_can_be() -> None:
    """Options of a choice, no and yes, the parts of a kind; of everything else what it is."""
    needed, way, on, schedule, ramp, pairs = explained.knobs(Holder)
    assert needed == Knob(name="needed", default=None, values=(), type="whole number", what="One without a default.")
    assert (way.default, way.values, way.type) == ("a", ("a", "b"), "choice")
    assert (on.default, on.values, on.type) == (True, (False, True), "yes or no")
    assert (schedule.type, explained.plain(schedule.default)) == ("part", "ramp")
    assert {"constant", "ramp", "trapezoid"} <= set(schedule.values)
    assert (ramp.type, ramp.values) == ("part", ())
    assert (pairs.type, explained.plain(pairs.default)) == ("list", [[1, 2]])


def test_settings_have_whole_keys_and_the_defaults_of_where_they_stand() -> None:
    """A table is told by its values, a part by its name and then by its knobs, at the values that they have there."""
    found = {knob.name: knob.default for knob in explained.settings(Whole, where="x")}
    assert "x.holder" not in found and found["x.holder.needed"] == 3
    assert (found["x.holder.ramp.start"], found["x.holder.schedule.start"]) == (0.25, 0.0)
    assert list(found)[:3] == ["x.holder.needed", "x.holder.way", "x.holder.on"] and found["x.many"] == ()


def test_slots_are_the_places_where_any_part_of_a_kind_may_stand() -> None:
    """Not those of one part alone; of a list it is said that it is one."""
    assert list(explained.slots(Whole)) == [("holder.schedule", Schedule, False), ("many", Schedule, True)]


@pytest.mark.parametrize(
    ("value", "text"),
    [("bert", "bert"), (True, "true"), (1e-12, "1e-12"), ([["a", 1]], '[["a", 1]]'), ({"a": [0.5]}, "{a = [0.5]}")],
)
def test_a_value_is_written_as_set_reads_it(value: object, text: str) -> None:
    """TOML, but for a word, which needs no quotes."""
    assert explained.written(value) == text
    assert parse_value(text) == value
