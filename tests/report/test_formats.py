"""Numbers as text: what a reader sees for every value a run directory may hold."""

import math

import pytest

from gpuday.report import formats
from gpuday.report.formats import plain


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (0.84, "0.8 s"), (59.96, "1 min"), (600.0, "10 min"), (599.25, "9 min 59 s"), (3600, "1 h"),
     (86340.0, "23 h 59 min"), (-61, "-1 min 1 s")],
)  # fmt: skip
def test_a_duration_has_the_two_units_that_matter(seconds: float, expected: str) -> None:
    """Seconds below a minute, no seconds above an hour, no `60 s`."""
    assert plain(formats.duration(seconds)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (950, "950"),
        (1000, "1 k"),
        (7_864_320, "7.86 M"),
        (999_999, "1000 k"),
        (1e18, "1 E"),
        (2.31e14, "231 T"),
    ],
)
def test_a_large_number_has_three_digits_and_a_prefix(value: float, expected: str) -> None:
    """Never an exponent."""
    assert plain(formats.scaled(value)) == expected


@pytest.mark.parametrize(
    ("budget", "expected"),
    [({"amount": 600.0, "unit": "seconds"}, "10 min"), ({"amount": 2e9, "unit": "tokens"}, "2 G tokens"),
     ({"amount": 5000.0, "unit": "steps"}, "5,000 steps"), ({"amount": 1e18, "unit": "flops"}, "1 EFLOP"),
     ("10m", "10m"), ({}, "\N{EN DASH} \N{EN DASH}"), (None, "\N{EN DASH}")],
)  # fmt: skip
def test_a_budget_keeps_its_own_unit(budget: object, expected: str) -> None:
    """As the recipe stores it, or as the user typed it."""
    assert plain(formats.budget(budget)) == expected


@pytest.mark.parametrize("write", [formats.count, formats.decimals, formats.share, formats.scaled, formats.duration])
def test_no_value_is_refused(write: object) -> None:
    """A missing value is a dash, a text is itself, NaN is named; nothing raises."""
    assert callable(write)
    assert write(None) == formats.MISSING
    assert write("soon") == "soon"
    assert write(math.nan) == "nan"
    assert write(math.inf) == "inf"
    assert write(True) == "yes"
    assert write({"a": [1, None]}) == "a: 1, \N{EN DASH}"


def test_energy_is_also_said_in_kilowatt_hours() -> None:
    """The unit of the bill."""
    assert plain(formats.energy(3.6e6)) == "3.6 MJ (1 kWh)"


def test_what_no_page_can_show_is_replaced() -> None:
    """Control characters, lone surrogates and signs that turn the reading direction."""
    assert formats.clean("a\x00b\x1bc\ud800d\u202ee\nf\tg") == "a\ufffdb\ufffdc\ufffdd\ufffde\nf\tg"


def test_a_text_without_end_is_cut() -> None:
    """The page stays small whatever a note holds, and says how much there was."""
    assert len(formats.clean("x" * 10_000_000)) < formats.LONGEST + 50
    assert "10,000,000 characters" in formats.clean("x" * 10_000_000)
