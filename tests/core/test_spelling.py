"""Spelling: what a misspelt word was meant to be, and nothing where that cannot be known."""

import hypothesis
import hypothesis.strategies as st
import pytest

from gpuday.core.spelling import FAR, closest, distance

WORDS = st.text("abcd", max_size=7)


@pytest.mark.parametrize(
    ("a", "b", "slips"),
    [
        ("out", "out", 0),
        ("ou", "out", 1),
        ("outt", "out", 1),
        ("uot", "out", 1),
        ("oit", "out", 1),
        ("", "out", 3),
        ("kitten", "sitting", 3),
        ("abcd", "badc", 2),
    ],
)
def test_a_distance_counts_slips(a: str, b: str, slips: int) -> None:
    """Worked by hand: left out, put in, changed, swapped."""
    assert distance(a, b) == slips


def test_a_distance_beyond_the_most_is_far() -> None:
    """Also where only the lengths say so."""
    assert distance("kitten", "sitting", 2) == FAR
    assert distance("a", "abcdef", 3) == FAR
    assert distance("ab", "ba", 0) == FAR


@hypothesis.given(WORDS, WORDS)
def test_a_distance_is_the_same_both_ways_and_zero_for_equal_words_only(a: str, b: str) -> None:
    """Whatever the words."""
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)
    assert abs(len(a) - len(b)) <= distance(a, b) <= max(len(a), len(b))


@pytest.mark.parametrize(
    ("word", "choices", "meant"),
    [
        ("adamv", ["muon", "adamw"], ["adamw"]),
        ("ADAMW", ["muon", "adamw"], ["adamw"]),
        ("task_data", ["task-data", "tasks"], ["task-data"]),
        ("nli", ["mnli", "qnli", "cola"], ["mnli", "qnli"]),
        ("sed", ["set", "seed", "size"], ["seed", "set"]),
        ("uot", ["not", "out"], ["out", "not"]),
        ("eval", ["evaluate", "export"], ["evaluate"]),
        ("ev", ["evaluate", "export"], []),
        ("zzz", ["muon", "adamw"], []),
        ("x", ["muon"], []),
        ("x", [], []),
    ],
)
def test_the_closest_are_the_fewest_slips_away(word: str, choices: list[str], meant: list[str]) -> None:
    """All that are equally near, likeliest first; a beginning counts where nothing is near; no wild guesses."""
    assert closest(word, choices) == meant


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("optmizer.lr", ["optimizer.lr"]),
        ("optimizerlr", ["optimizer.lr"]),
        ("lr", ["optimizer.lr"]),
        ("layers", ["model.shape.layers"]),
        ("model.layers", ["model.shape.layers"]),
        ("optimizer.rset.lr", ["optimizer.rest.lr"]),
        ("optimizer.foo", []),
        ("lr.optimizer", []),
        ("a.b.c.d.e", []),
        ("sede", ["seed"]),
    ],
)
def test_a_path_is_compared_name_by_name(path: str, meant: list[str]) -> None:
    """Names may be left out but for the last; a long name must not make up for a short one that is quite another."""
    known = ["optimizer.lr", "optimizer.eps", "optimizer.rest.lr", "model.shape.layers", "seed", "data.seed"]
    assert closest(path, known) == meant


def test_more_than_three_are_not_named() -> None:
    """A list of everything helps nobody."""
    assert closest("a", ["b", "c", "d", "e"]) == ["b", "c", "d"]


def plainly(a: str, b: str) -> int:
    """Every cell of the table, without a short cut."""
    table = {(i, j): i + j for i in range(len(a) + 1) for j in range(len(b) + 1) if not i or not j}
    for i, x in enumerate(a, start=1):
        for j, y in enumerate(b, start=1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return table[len(a), len(b)]


@hypothesis.given(WORDS, WORDS, st.integers(0, 4))
def test_no_short_cut_changes_a_distance(a: str, b: str, most: int) -> None:
    """What both words share is left out, and what lies too far off the diagonal: the number is the same."""
    exact = plainly(a, b)
    assert distance(a, b) == exact
    assert distance(a, b, most) == (exact if exact <= most else FAR)


def test_long_words_are_compared_in_a_narrow_band() -> None:
    """Work grows with the length, not with its square: two words of 20,000 letters are no wait."""
    a = "x" + "ab" * 10_000 + "x"
    assert distance(a, "y" + "ab" * 10_000 + "y", 3) == 2
