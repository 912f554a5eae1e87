"""What a misspelt word was meant to be: the choices that the fewest slips of the keyboard lie away from."""

from collections.abc import Iterable
from functools import lru_cache

MOST_NAMED = 3  # words that are equally near are all named, up to so many
FAR = 99


def closest(word: str, choices: Iterable[str]) -> list[str]:
    """The choices nearest to a word, likeliest first; empty where none is near enough for a guess.

    Several only where one slip leads to each of them (`nli`: mnli, qnli, wnli). A choice with dots is a path, and some
    of its first or middle names may be left out (`layers`: model.shape.layers). Case does not count, nor `-` for `_`.
    """
    typed = _fold(word)
    scores = {choice: _slips(typed, _fold(choice)) for choice in choices}
    best = min(scores.values(), default=FAR)
    if best >= FAR:
        whole = [choice for choice in scores if len(typed) > 2 and _fold(choice).startswith(typed)]
        return sorted(whole, key=len)[:MOST_NAMED]
    near = (choice for choice, score in scores.items() if score == best)
    return sorted(near, key=lambda choice: _unlikely(typed, _fold(choice)))[:MOST_NAMED]


@lru_cache(maxsize=1 << 16)
def distance(a: str, b: str, most: int = FAR) -> int:
    """Letters to leave out, put in, change, or swap with their neighbour until `a` is `b`; FAR beyond `most`."""
    if abs(len(a) - len(b)) > most:
        return FAR
    same = _shared(a, b)
    a, b = a[same:], b[same:]
    same = _shared(a[::-1], b[::-1])
    a, b = a[: len(a) - same], b[: len(b) - same]
    before, above = [FAR] * (len(b) + 1), list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [FAR] * (len(b) + 1)
        row[0] = least = i
        for j in range(max(1, i - most), min(len(b), i + most) + 1):  # farther off the diagonal it takes too many slips
            y = b[j - 1]
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row[j] = cost
            least = min(least, cost)
        if least > most:
            return FAR
        before, above = above, row
    return above[-1] if above[-1] <= most else FAR


def _shared(a: str, b: str) -> int:
    """Letters at the beginning that are the same: only what differs is worth comparing."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _fold(word: str) -> str:
    return word.casefold().replace("-", "_")


def _allowed(word: str) -> int:
    """Slips that leave a word of this length recognisable."""
    return 1 if len(word) < 5 else 2 if len(word) < 9 else 3


def _slips(typed: str, choice: str) -> int:
    if "." not in choice:
        return distance(typed, choice, _allowed(typed))
    aligned = _aligned(tuple(typed.split(".")), tuple(choice.split(".")))
    return min(aligned, distance(typed, choice, 1))  # the dot itself may be the slip


def _aligned(typed: tuple[str, ...], names: tuple[str, ...]) -> int:
    """Slips between a typed path and another, of which each name that was left out is one; the ends belong together."""
    if not typed:
        return len(names)
    if len(typed) > len(names):
        return FAR
    last = distance(typed[-1], names[-1], _allowed(typed[-1]))
    if last >= FAR:
        return FAR
    rest = (_aligned(typed[:-1], names[:end]) + len(names) - 1 - end for end in range(len(typed) - 1, len(names)))
    return min(FAR, last + min(rest)) if len(typed) > 1 else last + len(names) - 1


def _unlikely(typed: str, choice: str) -> tuple[bool, bool, int, str]:
    """Sorts words that are equally near: swapped letters first, then those that begin alike, then by name."""
    alike = next((i for i, (x, y) in enumerate(zip(typed, choice, strict=False)) if x != y), len(typed))
    return sorted(typed) != sorted(choice), typed[:1] != choice[:1], -alike, choice
