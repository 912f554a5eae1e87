import pytest

from gpuday.evaluate.entities import entities, entity_f1


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),  # IOB2
        ("I-PER I-PER O I-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),  # IOB1: B- is not needed at a begin
        ("I-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),  # IOB1: B- parts neighbours of one type
        ("I-PER I-LOC", [(0, 1, "PER"), (1, 2, "LOC")]),  # another type is another entity
        ("B-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("B-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),
        ("S-PER B-LOC I-LOC E-LOC E-LOC", [(0, 1, "PER"), (1, 4, "LOC"), (4, 5, "LOC")]),  # IOBES
        ("U-PER B-LOC L-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC"), (3, 4, "LOC")]),  # BILOU
        ("B-A-B I-A-B", [(0, 2, "A-B")]),  # the first hyphen parts prefix and type
        ("B I O B", [(0, 2, ""), (3, 4, "")]),  # one type, without a name
        ("PER PER O LOC", [(0, 2, "PER"), (3, 4, "LOC")]),  # types without a prefix
        ("O O", []),
        ("", []),
    ],
)
def test_entities_of_every_scheme(tags: str, expected: list[tuple[int, int, str]]) -> None:
    """Worked out by hand from the rules of the CoNLL script."""
    assert entities(tags.split()) == expected


def test_an_entity_is_right_in_place_and_type_or_not_at_all() -> None:
    """Three are wanted and three named, of which one is both: F1 1/3."""
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG"]]
    named = [["B-PER", "I-PER", "O", "B-ORG"], ["O"]]
    named[1] = ["B-LOC"]
    assert entity_f1(truth, named) == pytest.approx(1 / 3)


def test_entities_do_not_cross_sentences() -> None:
    """The same tags in one sentence and in two are not the same."""
    assert entity_f1([["I-PER"], ["I-PER"]], [["I-PER"], ["I-PER"]]) == 1.0
    assert entity_f1([["I-PER", "I-PER"]], [["I-PER", "B-PER"]]) == 0.0


def test_iob1_and_iob2_of_the_same_entities_agree() -> None:
    """The score does not depend on the scheme."""
    assert entity_f1([["I-A", "I-A", "B-A", "O"]], [["B-A", "I-A", "B-A", "O"]]) == 1.0


def test_no_entity_anywhere_scores_0() -> None:
    """As the script has it, which divides nothing by nothing."""
    assert entity_f1([["O"]], [["O"]]) == 0.0
