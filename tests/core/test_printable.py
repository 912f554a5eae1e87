"""Printable text: letters of every script stay, and what steers a terminal or shows nothing does not."""

import unicodedata

import pytest

from gpuday.core.printable import is_plain, plain

STEERING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize(
    "name",
    [
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.txt",
        "\U0001f469\u200d\U0001f52c.txt",
        "a\u200f.txt",
        "a\xa0b",
        "1\u202f000",
        "東京",
    ],
)
def test_a_name_that_people_write_stays_as_it_is(name: str) -> None:
    """Persian with its joiner, an emoji of two, a mark of direction, blanks that do not break: it can be copied."""
    assert plain(name) == name


@pytest.mark.parametrize(
    "character", [*STEERING, "\x1b", "\x7f", "\x9b", "\n", "\r", "\u2028", "\u2029", "\ud800", "\u200b"]
)
def test_what_steers_or_hides_is_replaced(character: str) -> None:
    """Embeddings, overrides and isolates, controls, line separators, lone surrogates, widthless blanks."""
    assert plain(f"a{character}b") == "a\ufffdb"
    assert plain(f"a{character}b", instead="?") == "a?b"
    assert plain(f"a{character}b", also=character) == f"a{character}b"


def test_no_character_turns_what_follows() -> None:
    """Of all there are: no control, no line or paragraph separator, no surrogate, and no embedding, override or isolate."""
    passed = [c for c in map(chr, range(0x110000)) if is_plain(c)]
    assert not {unicodedata.category(c) for c in passed} & {"Cc", "Cs", "Zl", "Zp"}
    turns = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "B", "S"}
    assert [c for c in passed if unicodedata.bidirectional(c) in turns] == []
    assert len("".join(passed).splitlines()) == 1
