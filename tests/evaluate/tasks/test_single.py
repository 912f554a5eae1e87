from gpuday.evaluate.tasks.single import (
    CONLL,
    RACE,
    SINGLE,
    SQUAD_2,
    article_and_questions,
    question_and_context,
    start_and_ending,
    words_and_tags,
)


def test_swag_joins_the_begin_of_a_sentence_with_its_endings() -> None:
    """The second sentence's begin may be empty."""
    row = {"sent1": "He sits.", "sent2": "", "ending0": "a", "ending1": "b", "ending2": "c", "ending3": "d", "label": 3}
    assert list(start_and_ending(row)) == [{"text_a": "He sits.", "options": list("abcd"), "label": 3}]


def test_race_of_the_hub_has_a_question_a_row() -> None:
    """The letter of the answer becomes its number, the gap is filled."""
    row = {"article": "A.", "question": "It _ .", "options": list("wxyz"), "answer": "C", "example_id": "high1.txt"}
    (flat,) = article_and_questions(row)
    assert (flat["options"], flat["label"]) == (["It w .", "It x .", "It y .", "It z ."], 2)


def test_words_and_questions_of_the_hub_are_renamed() -> None:
    """`tokens` and `ner_tags` become words and labels, a question keeps its id."""
    (flat,) = words_and_tags({"tokens": ["Ann"], "ner_tags": ["B-PER"], "id": "4"})
    assert flat == {"words": ["Ann"], "labels": ["B-PER"], "idx": "4"}
    answers = {"text": [], "answer_start": []}
    (flat,) = question_and_context({"id": "4", "question": "Who?", "context": "Ann.", "answers": answers})
    assert flat == {"text_a": "Who?", "text_b": "Ann.", "answers": [], "idx": "4"}


def test_every_row_of_the_table_is_whole() -> None:
    """Each a kind of its own with a citation and a place on the hub; people's score where its source gives one."""
    assert {task.kind for task in SINGLE} == {"choice", "tagging", "span"}
    assert all(task.citation and task.hub for task in SINGLE)
    assert [task for task in SINGLE if task.reference is None] == [RACE, CONLL, SQUAD_2]
    assert [c.name for c in RACE.companions] == ["RACE-middle", "RACE-high"]
