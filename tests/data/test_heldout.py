import pytest

from gpuday.core.errors import DataError
from gpuday.data.document import Document, DropCounter
from gpuday.data.heldout import GroupCensus, SharedLines, collect


def corpus(count: int, *, source: str = "s", size: int = 100, per_group: int = 1) -> list[Document]:
    return [Document("x" * size, f"{source}{i}", source, f"{source}{i // per_group}") for i in range(count)]


def census(*documents: Document) -> GroupCensus:
    found = GroupCensus()
    for document in documents:
        found.add(document)
    return found


def test_the_held_out_text_has_the_size_that_was_asked_for() -> None:
    """10% below to exactly the target, of a corpus that is large enough."""
    documents = corpus(5000)
    groups = census(*documents).choose(20_000)
    assert 18_000 <= sum(len(d.text) for d in documents if d in groups) <= 20_000


def test_a_small_corpus_gives_at_most_five_percent() -> None:
    """Whatever was asked for."""
    documents = corpus(1000)
    groups = census(*documents).choose(10**9)
    assert 0.045 * 1000 <= sum(d in groups for d in documents) <= 0.05 * 1000


def test_a_group_is_never_split() -> None:
    """All ten documents of a group are on one side."""
    documents = corpus(5000, per_group=10)
    groups = census(*documents).choose(20_000)
    held = {d.group for d in documents if d in groups}
    assert held
    assert not held & {d.group for d in documents if d not in groups}


def test_every_source_gives_its_share() -> None:
    """A small source is held out in proportion, and one of few documents gives at least one."""
    documents = [*corpus(4000, source="a"), *corpus(400, source="b"), *corpus(25, source="c", size=10)]
    groups = census(*documents).choose(20_000)
    held = {s: sum(d in groups for d in documents if d.source == s) for s in "abc"}
    assert 150 <= held["a"] <= 190
    assert 15 <= held["b"] <= 19
    assert held["c"] == 1


def test_the_smallest_group_is_taken_where_none_fits() -> None:
    """Two large documents: one is trained on, the smaller one held out."""
    one, other = Document("x" * 900, "a", "s", "a"), Document("x" * 800, "b", "s", "b")
    groups = census(one, other).choose(100)
    assert (one in groups, other in groups) == (False, True)


def test_a_single_document_cannot_be_split() -> None:
    """The error says what to do."""
    with pytest.raises(DataError, match="single document") as fault:
        census(*corpus(1)).choose(100)
    assert "--heldout" in fault.value.fix


def test_the_choice_does_not_follow_the_order_of_documents() -> None:
    """Nor what else the process has done."""
    documents = corpus(3000)
    one, other = census(*documents).choose(9000), census(*reversed(documents)).choose(9000)
    assert [d in one for d in documents] == [d in other for d in documents]


def test_lines_that_training_text_holds_are_removed() -> None:
    """Long lines are; a heading that stands everywhere stays; an emptied document is left out."""
    long, other = (
        "This very sentence stands in both parts of the corpus.",
        "This one stands in the held-out part alone.",
    )
    held = [Document(f"History\n{long}\n{other}", "a", "s", "a"), Document(long, "b", "s", "b")]
    shared, drops = SharedLines(held), DropCounter()
    shared.see(Document(f"History\n  {long}  ", "c", "s", "c"))
    assert [d.text for d in shared.without(held, drops)] == [f"History\n{other}"]
    assert list(drops) == [("heldout", "paragraph also in training text", 2)]


def test_the_held_out_text_is_cut_at_its_limit() -> None:
    """At a word; what is beyond it is counted."""
    drops = DropCounter()
    documents = [Document("one two", "a", "s", "a"), Document("three four", "b", "s", "b"), *corpus(2)]
    assert [d.text for d in collect(documents, 15, drops)] == ["one two", "three"]
    assert drops.count("heldout") == 3
