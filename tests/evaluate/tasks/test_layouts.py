import json
from pathlib import Path

import pytest

from gpuday.core.errors import DataError
from gpuday.evaluate.tasks.layouts import sentence_records, squad_record, squad_records

CONLL = b"""-DOCSTART- -X- -X- O

EU NNP I-NP I-ORG
rejects VBZ I-VP O

-DOCSTART- -X- -X- O
Peter\tNNP\tI-NP\tI-PER
"""


def test_a_blank_line_or_a_document_ends_a_sentence() -> None:
    """The word is the first column, the tag the last, between blanks or tabs; the number is that of the first word."""
    assert list(sentence_records(Path("x"), CONLL)) == [
        (3, {"words": ["EU", "rejects"], "labels": ["I-ORG", "O"]}),
        (7, {"words": ["Peter"], "labels": ["I-PER"]}),
    ]


def test_a_word_without_a_tag_is_refused_unless_it_is_to_be_tagged() -> None:
    """One column is all that a file to be answered needs."""
    with pytest.raises(DataError, match="line 2 has one column"):
        list(sentence_records(Path("x"), b"a O\nb\n"))
    assert [r["words"] for _, r in sentence_records(Path("x"), b"a\nb\n\nc\n", labelled=False)] == [["a", "b"], ["c"]]


def test_the_questions_of_squad_come_with_their_context() -> None:
    """Version 2.0: an impossible question has no answers, its plausible ones are not read."""
    impossible = {
        "id": "2", "question": "When?", "answers": [], "is_impossible": True,
        "plausible_answers": [{"text": "By", "answer_start": 0}],
    }  # fmt: skip
    first = {"id": "1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 3}]}
    data = {
        "version": "v2.0",
        "data": [{"title": "T", "paragraphs": [{"context": "By Ann.", "qas": [first, impossible]}]}],
    }
    assert list(squad_records(Path("x.json"), json.dumps(data).encode())) == [
        (1, {"text_a": "Who?", "text_b": "By Ann.", "answers": [{"text": "Ann", "start": 3}], "idx": "1"}),
        (2, {"text_a": "When?", "text_b": "By Ann.", "answers": [], "idx": "2"}),
    ]


def test_the_hub_holds_answers_as_two_lists() -> None:
    """Texts and starts become pairs."""
    row = {"id": "1", "question": "Who?", "context": "By Ann.", "answers": {"text": ["Ann"], "answer_start": [3]}}
    assert squad_record(row)["answers"] == [{"text": "Ann", "start": 3}]


@pytest.mark.parametrize(
    "content", [b"[]", b'{"data": 1}', b'{"data": [{"paragraphs": [1]}]}', b'{"data": [{}]}', b"{", b"[" * 100_000]
)
def test_other_json_is_refused(content: bytes) -> None:
    """With what was missing, never with a traceback."""
    with pytest.raises(DataError, match=r"no list|not JSON"):
        list(squad_records(Path("x.json"), content))
