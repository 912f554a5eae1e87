"""Text that a terminal may be given: letters of every script, and nothing that steers what follows.

Joiners and marks that Persian, Hindi, Arabic, Hebrew or an emoji need inside of a word stay, so that a path can be
copied; they change the shape or the side of their neighbours alone. Blanks of other widths stay, too. Control characters,
whatever turns the direction of what follows, line separators, lone surrogates, and characters that show nothing do not.
"""

import unicodedata

JOINERS = "\u200c\u200d\u200e\u200f\u061c"


def is_plain(character: str) -> bool:
    """Whether a character is a letter, a sign, a blank, or a joiner within a word; a line end or a tab is not."""
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


def plain(text: str, *, also: str = "", instead: str = "\ufffd") -> str:
    """The text with `instead` for each character that is not plain; those in `also` stay."""
    return "".join(c if c in also or is_plain(c) else instead for c in text)
