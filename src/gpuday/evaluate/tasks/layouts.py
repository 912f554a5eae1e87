"""Published layouts that are no table: columns of words as CoNLL-2003 has them, and the JSON of SQuAD 1.1 and 2.0.

Both give flat records, numbered by the line where a sentence begins or by the question.
"""

import json
from pathlib import Path
from typing import Any

from gpuday.core.errors import DataError
from gpuday.evaluate.tasks.tables import Records, text_of
from gpuday.evaluate.tasks.task import Record

_DOCUMENT = "-DOCSTART-"
_SQUAD_FIX = 'give SQuAD\'s layout: {"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}'


def sentence_records(path: Path, content: bytes, *, labelled: bool = True) -> Records:
    """`words` and `labels` of every sentence: one word a line, its columns separated by blanks, the word first and the tag
    last; a blank line ends a sentence, and lines that begin a document are passed over."""
    words: list[str] = []
    tags: list[str] = []
    start = 1
    for number, line in enumerate([*text_of(path, content).split("\n"), ""], start=1):
        cells = line.split()
        if cells and cells[0] != _DOCUMENT:
            if labelled and len(cells) < 2:
                raise DataError(f"line {number} has one column", where=str(path), fix="end every line with its tag")
            start = start if words else number
            words.append(cells[0])
            tags.append(cells[-1])
        elif words:
            yield start, {"words": words, "labels": tags}
            words, tags = [], []


def squad_records(path: Path, content: bytes) -> Records:
    """A flat record of every question, with its context, answers and id."""
    try:
        data = json.loads(text_of(path, content))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}", fix="give SQuAD's JSON, or JSON lines") from error
    number = 0
    for article in _list(data, "data", path):
        for paragraph in _list(article, "paragraphs", path):
            for question in _list(paragraph, "qas", path):
                number += 1
                yield number, squad_record({"context": paragraph.get("context"), **question})


def squad_record(question: Record) -> Record:
    """The flat record of a question in the fields of SQuAD, or of its copy on the Hugging Face hub; a question that is
    impossible has no answers, though SQuAD 2.0 names plausible ones elsewhere."""
    answers = question.get("answers")
    if isinstance(answers, dict):  # the hub holds lists of texts and of starts
        pairs = zip(answers.get("text", ()), answers.get("answer_start", ()), strict=True)
        answers = [{"text": text, "answer_start": start} for text, start in pairs]
    if isinstance(answers, list):
        answers = [
            {"text": a.get("text"), "start": a.get("answer_start")} if isinstance(a, dict) else a for a in answers
        ]
    return {
        "text_a": question.get("question"),
        "text_b": question.get("context"),
        "answers": answers,
        "idx": question.get("id"),
    }


def _list(value: Any, name: str, path: Path) -> list[Record]:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise DataError(f"no list {name!r}", where=str(path), fix=_SQUAD_FIX)
    return found
