import pytest

from gpuday.evaluate.answers import exact_match, normalised, span_f1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("a.n. the-end", "theend"),  # punctuation first: "an" is what is left of "a.n."
        ("Theatre and another", "theatre and another"),
        ("$1,000", "1000"),
        ("“Ann”", "“ann”"),  # only ASCII punctuation goes
        ("The", ""),
        ("É\u00a0x", "é x"),
    ],
)
def test_answers_are_compared_as_the_official_script_does(answer: str, expected: str) -> None:
    """Lower case, no punctuation, no articles, single spaces, in this order."""
    assert normalised(answer) == expected


@pytest.mark.parametrize(
    ("accepted", "named", "exact", "f1"),
    [
        (("Ann Lee", "Lee"), "the Lee", 1.0, 1.0),
        (("Ann Lee",), "Lee", 0.0, 2 / 3),
        (("a b b c",), "b b b", 0.0, 4 / 6),  # two of three words, of the three that are left without the article
        (("Ann",), "Lee", 0.0, 0.0),
        (("Ann",), "", 0.0, 0.0),
        ((), "", 1.0, 1.0),
        ((), "Ann", 0.0, 0.0),
        (("the", "Ann"), "", 0.0, 0.0),  # an accepted answer without a word is no reason to give none
        (("the",), "", 1.0, 1.0),
    ],
)
def test_the_best_accepted_answer_counts(accepted: tuple[str, ...], named: str, exact: float, f1: float) -> None:
    """Worked out by hand."""
    assert (exact_match([accepted], [named]), span_f1([accepted], [named])) == (exact, pytest.approx(f1))


def test_scores_are_means_over_questions() -> None:
    """One right, one half right, one wrong."""
    accepted, named = [("x",), ("x y z",), ("x",)], ["x", "x", "y"]
    assert exact_match(accepted, named) == pytest.approx(1 / 3)
    assert span_f1(accepted, named) == pytest.approx((1 + 0.5) / 3)
