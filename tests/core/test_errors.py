"""Errors: sentences for people, exit codes for scripts."""

import pytest

from gpuday.core import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.GpudayError, 70),
        (errors.UsageError, 2),
        (errors.DataError, 3),
        (errors.FitError, 4),
        (errors.EnvironmentFault, 5),
        (errors.Interrupted, 75),
    ],
)
def test_each_kind_of_fault_has_its_own_exit_code(kind: type[errors.GpudayError], code: int) -> None:
    """The exit codes are those of the command line's documentation."""
    assert kind("x").exit_code == code


def test_every_subclass_overrides_the_internal_code() -> None:
    """Only the base says 70: a fault that a person can mend is never called internal."""
    here = [kind for kind in errors.GpudayError.__subclasses__() if kind.__module__ == errors.__name__]
    codes = [kind.exit_code for kind in here]
    assert len(set(codes)) == len(codes)
    assert errors.INTERNAL not in codes
    assert errors.DONE not in codes


def test_an_error_reads_what_where_fix() -> None:
    """Three lines: what happened, where, and the likeliest fix."""
    error = errors.DataError("no text", where="corpus.txt:3", fix="give a file with text")
    assert str(error) == "no text\n  where: corpus.txt:3\n  fix:   give a file with text"


def test_an_error_leaves_out_what_it_does_not_know() -> None:
    """A line without content is not printed."""
    assert str(errors.UsageError("no")) == "no"
    assert str(errors.UsageError("no", fix="yes")) == "no\n  fix:   yes"
    assert str(errors.UsageError("no", where="here")) == "no\n  where: here"


def test_nearest_names_the_closest_choice() -> None:
    """A misspelt word gets the word that was meant."""
    assert errors.nearest("adamv", ["muon", "adamw", "lion"]) == "did you mean 'adamw'?"


def test_nearest_lists_all_choices_where_nothing_is_close() -> None:
    """A guess that is far off is worse than the list, which is sorted."""
    assert errors.nearest("zzz", ["muon", "adamw"]) == "known: adamw, muon"


def test_nearest_takes_any_iterable_once() -> None:
    """Dictionaries and generators serve as choices."""
    assert errors.nearest("rat", (w for w in ["rate", "size"])) == "did you mean 'rate'?"
    assert errors.nearest("rat", {"rate": 1}) == "did you mean 'rate'?"


def test_numbers_outside_of_their_range_are_refused_with_it() -> None:
    """Both ends belong to the range; what is no number is outside of it."""
    errors.within("train", clip=(0.0, 0.0, 1.0), rows=(5, 1, 5))
    errors.at_least("train", clip=(0.0, 0.0))
    for value in (-1, 1_000_001, float("nan")):
        with pytest.raises(errors.UsageError, match=f"rows is {value}") as caught:
            errors.within("batch", rows=(value, 0, 1_000_000))
        assert (caught.value.where, caught.value.fix) == ("batch.rows", "give a number from 0 to 1,000,000")
    with pytest.raises(errors.UsageError) as caught:
        errors.at_least("", seed=(-1, 0))
    assert (caught.value.where, caught.value.fix) == ("seed", "give 0 or more")


@pytest.mark.parametrize(
    ("value", "fix"), [(float("inf"), "give a finite number, 0 or more"), (float("nan"), "give 0 or more")]
)
def test_what_is_infinite_or_no_number_has_no_least_value(value: float, fix: str) -> None:
    """A rate of infinity is above 0 and trains nothing."""
    with pytest.raises(errors.UsageError, match="lr is") as caught:
        errors.at_least("optimizer", lr=(value, 0))
    assert (caught.value.where, caught.value.fix) == ("optimizer.lr", fix)


def test_a_decay_is_below_one() -> None:
    """0 belongs to the range and 1 does not; the fix says so."""
    errors.below_one("optimizer", beta1=0.0, beta2=0.999999)
    for value in (-0.1, 1.0, 2.0, float("inf"), float("nan")):
        with pytest.raises(errors.UsageError, match=f"beta1 is {value}") as caught:
            errors.below_one("optimizer", beta1=value)
        assert (caught.value.where, caught.value.fix) == ("optimizer.beta1", "give a number from 0 to below 1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ""),
        (["a"], "did you mean a?"),
        (["a", "b"], "did you mean a or b?"),
        (["a", "b", "c"], "did you mean a, b or c?"),
    ],
)
def test_several_words_make_one_question(words: list[str], said: str) -> None:
    """And none makes none."""
    assert errors.did_you_mean(words) == said
