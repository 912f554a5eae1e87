import json
from pathlib import Path
from typing import Any

import pytest

from gpuday.core.errors import DataError
from gpuday.evaluate.metrics import measure
from gpuday.evaluate.tasks.parsing import parse_rows
from gpuday.evaluate.tasks.rows import Rows
from gpuday.evaluate.tasks.superglue import AX_B, AX_G, SUPERGLUE

TASKS = {t.name: t for t in (*SUPERGLUE, AX_B, AX_G)}


def read(name: str, *records: dict[str, Any]) -> Rows:
    return parse_rows(TASKS[name], Path("val.jsonl"), "".join(json.dumps(r) + "\n" for r in records).encode())


@pytest.mark.parametrize(
    ("name", "record", "texts", "label"),
    [
        ("BoolQ", {"question": "is it", "passage": "It is.", "idx": 0, "label": True}, ("is it", "It is."), 1),
        ("CB", {"premise": "P.", "hypothesis": "H", "label": "neutral", "idx": 1}, ("P.", "H"), 2),
        ("RTE-SuperGLUE", {"premise": "P.", "hypothesis": "H", "label": "not_entailment", "idx": 1}, ("P.", "H"), 1),
        ("AX-b", {"sentence1": "A", "sentence2": "B", "label": "entailment", "logic": "x", "idx": 0}, ("A", "B"), 0),
        (
            "WiC",
            {"word": "place", "sentence1": "Do you want to come over to my place?", "sentence2": "A political place.",
             "idx": 0, "label": False, "start1": 31, "start2": 12, "end1": 36, "end2": 17, "version": 1.1},
            ("place: Do you want to come over to my place?", "A political place."), 0,
        ),
        (
            "WSC",
            {"target": {"span2_index": 5, "span1_index": 0, "span1_text": "Mark", "span2_text": "he"}, "idx": 0,
             "label": True, "text": "Mark told Pete many lies; he's sorry that he did."},
            ("Mark told Pete many lies; *he*'s sorry that he did.", "Mark"), 1,
        ),
    ],
)  # fmt: skip
def test_official_rows_become_pairs_of_texts(
    name: str, record: dict[str, Any], texts: tuple[str, str], label: int
) -> None:
    """Fields as published; the label is the number of its class."""
    rows = read(name, record)
    assert ((rows.text_a[0], rows.text_b[0]), rows.labels.tolist()) == (texts, [label])
    assert rows.ids == (str(record["idx"]),)


def test_a_pronoun_that_is_not_where_it_should_be_marks_the_word() -> None:
    """The word that the file numbers, whole."""
    record = {"text": "A  b c", "span1_text": "A", "span2_text": "z", "span2_index": 1, "label": 0, "idx": 0}
    assert read("WSC", record).text_a == ("A  *b* c",)


def test_copa_chooses_between_two_sentences() -> None:
    """The question is asked after the premise."""
    record = {
        "premise": "It rained.",
        "choice1": "I got wet.",
        "choice2": "I ate.",
        "question": "effect",
        "label": 0,
        "idx": 4,
    }
    rows = read("COPA", record, {**record, "question": "cause", "label": 1})
    assert rows.text_a == ("It rained. What happened as a result?", "It rained. What was the cause of this?")
    assert (rows.options[0], rows.labels.tolist()) == (("I got wet.", "I ate."), [0, 1])


def multirc() -> Rows:
    answers = [{"text": "A", "idx": 0, "label": 1}, {"text": "B", "idx": 1, "label": 0}]
    questions = [
        {"question": "Who?", "answers": answers, "idx": 0},
        {"question": "Why?", "answers": answers[:1], "idx": 1},
    ]
    return read("MultiRC", {"idx": 3, "version": 1.1, "passage": {"text": "P.", "questions": questions}})


def test_multirc_has_a_row_for_each_answer() -> None:
    """Grouped by question."""
    rows = multirc()
    assert (set(rows.text_a), rows.text_b) == ({"P."}, ("Who? A", "Who? B", "Why? A"))
    assert (rows.groups, rows.labels.tolist()) == (("3-0", "3-0", "3-1"), [1, 0, 1])
    assert rows.ids == ("3-0-0", "3-0-1", "3-1-0")


def test_multirc_is_scored_by_answer_and_by_question() -> None:
    """Of three answers the second is wrong: precision 2/3, recall 1, and one of two questions is right."""
    rows = multirc()
    assert measure(TASKS["MultiRC"], rows, rows.labels | 1) == {"answer_f1": pytest.approx(0.8), "question_match": 0.5}


def test_rows_of_the_hub_are_the_same() -> None:
    """It holds truths as numbers, and MultiRC as a row for each answer."""
    idx = {"paragraph": 3, "question": 0, "answer": 1}
    record = {"paragraph": "P.", "question": "Who?", "answer": "B", "idx": idx, "label": 0}
    rows = read("MultiRC", record)
    assert (rows.text_b, rows.groups, rows.ids) == (("Who? B",), ("3-0",), ("3-0-1",))
    assert read("BoolQ", {"question": "q", "passage": "p", "idx": 0, "label": 1}).labels.tolist() == [1]


def test_pairs_of_ax_g_are_scored_for_parity() -> None:
    """Grouped by `pair_id`, on the hub by two rows in turn; one of two pairs is answered alike."""
    record = {"premise": "P.", "hypothesis": "H", "label": "entailment"}
    rows = read("AX-g", *({**record, "idx": i, "pair_id": 9 - i // 2} for i in range(4)))
    assert rows.groups == ("9", "9", "8", "8")
    assert read("AX-g", *({**record, "idx": i} for i in range(4))).groups == ("0", "0", "1", "1")
    predicted = rows.labels.copy()
    predicted[1] = 1
    assert measure(AX_G, rows, predicted) == {"accuracy": 0.75, "gender_parity": 0.5}


@pytest.mark.parametrize("name", list(TASKS))
def test_a_row_of_another_task_is_refused(name: str) -> None:
    """With the layout that is asked for."""
    with pytest.raises(DataError, match=r"no row of|label") as caught:
        read(name, {"text": "x", "idx": 0})
    assert caught.value.fix


def test_every_row_of_the_table_is_whole() -> None:
    """A citation, a place on the hub, people's score; companions have the classes of their task."""
    for task in TASKS.values():
        assert task.citation
        assert task.hub
        assert task.reference
        assert all(c.classes == task.classes for c in task.companions)


def test_people_average_what_the_paper_says() -> None:
    """89.8 over eight tasks, ReCoRD's 91.5 included, with both metrics of those that have two (arXiv 1905.00537)."""
    main = {task.name: 100 * task.reference for task in SUPERGLUE}
    beside = {"CB": 98.9, "MultiRC": 51.9}
    average = (91.5 + sum((v + beside.get(n, v)) / 2 for n, v in main.items())) / 8
    assert average == pytest.approx(89.8, abs=0.1)
