"""The tasks of SuperGLUE (Wang et al., arXiv 1905.00537), from the JSON lines that super.gluebenchmark.com gives.

All are asked as text, without a head of their own: what the row's recast does is said with it. ReCoRD is not among them:
its answer is one of some dozens of marked names of an article of 200 words or more, a choice whose candidates differ in
number by row, and its articles do not fit into 128 tokens. RTE is GLUE's RTE with AX-b and AX-g beside it, and is called
RTE-SuperGLUE where both suites are named. The references are people's scores (table 3 of the paper).
"""

import re
from collections.abc import Iterator

from gpuday.evaluate.tasks.glue import ENTAILED
from gpuday.evaluate.tasks.task import Record, Task

SUITE = "superglue"
NO_YES = ("no", "yes")
FILES = ("train.jsonl", "val.jsonl", "test.jsonl")
_HUB = "aps/super_glue"
# The questions of Roemmele, Bejan & Gordon, AAAI Spring Symposium 2011, by the field `question`.
_COPA = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}


def question_and_passage(record: Record) -> Iterator[Record]:
    """BoolQ: the question, then the passage."""
    yield _flat(record, record["question"], record["passage"])


def premise_and_hypothesis(record: Record) -> Iterator[Record]:
    """CB and RTE: premise, then hypothesis."""
    yield _flat(record, record["premise"], record["hypothesis"])


def pairs_of_a_pronoun(record: Record) -> Iterator[Record]:
    """AX-g: premise, then hypothesis. Rows that share `pair_id` differ in the gender of a pronoun; on the hub, which leaves
    that out, each two rows in turn do."""
    group = record["pair_id"] if "pair_id" in record else record["idx"] // 2
    yield {**_flat(record, record["premise"], record["hypothesis"]), "group": group}


def two_sentences(record: Record) -> Iterator[Record]:
    """AX-b: its sentences."""
    yield _flat(record, record["sentence1"], record["sentence2"])


def premise_and_question(record: Record) -> Iterator[Record]:
    """COPA: a choice between two sentences that follow premise and question."""
    flat = _flat(record, record["premise"] + " " + _COPA[record["question"]], None)
    yield {**flat, "options": [record["choice1"], record["choice2"]]}


def word_in_context(record: Record) -> Iterator[Record]:
    """WiC: "word: first sentence", then the second sentence. The word is given as text, as in T5 (arXiv 1910.10683)."""
    yield _flat(record, record["word"] + ": " + record["sentence1"], record["sentence2"])


def pronoun_and_name(record: Record) -> Iterator[Record]:
    """WSC: the text with its pronoun between asterisks, then the name that it may stand for; marked as in T5 (arXiv
    1910.10683). The pronoun is found by its number among the words between blanks; of that word its letters are marked."""
    target, text = record.get("target", record), record["text"]  # the hub has the fields of `target` in the row
    word = list(re.finditer(r"\S+", text))[target["span2_index"]]
    start, end, pronoun = word.start(), word.end(), target["span2_text"]
    if (at := text.lower().find(pronoun.lower(), start)) in range(start, end):
        start, end = at, at + len(pronoun)
    yield _flat(record, text[:start] + "*" + text[start:end] + "*" + text[end:], target["span1_text"])


def passage_and_answers(record: Record) -> Iterator[Record]:
    """MultiRC: the paragraph, then question and answer; a row for each answer, grouped by question."""
    if "passage" not in record:
        names = record["idx"]  # of the hub, which has a row for each answer
        group = f"{names['paragraph']}-{names['question']}"
        flat = _flat(record, record["paragraph"], record["question"] + " " + record["answer"])
        yield {**flat, "group": group, "idx": f"{group}-{names['answer']}"}
        return
    for question in record["passage"]["questions"]:
        group = f"{record['idx']}-{question['idx']}"
        for answer in question["answers"]:
            flat = _flat(answer, record["passage"]["text"], question["question"] + " " + answer["text"])
            yield {**flat, "group": group, "idx": f"{group}-{answer['idx']}"}


def _flat(record: Record, text_a: str, text_b: str | None) -> Record:
    label = record.get("label")
    flat = {"text_a": text_a, "label": int(label) if isinstance(label, bool) else label, "idx": record.get("idx")}
    return flat if text_b is None else {**flat, "text_b": text_b}


AX_B = Task(
    name="AX-b",
    suite=SUITE,
    classes=ENTAILED,
    pair=True,
    metrics=("matthews", "accuracy"),
    citation="Wang et al., arXiv 1905.00537: the diagnostic set, answered by the model of RTE",
    in_mean=False,
    official=("", "AX-b.jsonl", "AX-b.jsonl"),
    recast=two_sentences,
    chance=0.0,
    reference=0.77,
    hub=f"{_HUB}:axb:test",
)
AX_G = Task(
    name="AX-g",
    suite=SUITE,
    classes=ENTAILED,
    pair=True,
    metrics=("accuracy", "gender_parity"),
    citation="Rudinger et al., arXiv 1804.09301, as recast in arXiv 1905.00537; answered by the model of RTE",
    in_mean=False,
    official=("", "AX-g.jsonl", "AX-g.jsonl"),
    recast=pairs_of_a_pronoun,
    reference=0.997,
    hub=f"{_HUB}:axg:test",
)

SUPERGLUE: tuple[Task, ...] = (
    Task(
        name="BoolQ",
        suite=SUITE,
        classes=NO_YES,
        pair=True,
        citation="Clark et al., arXiv 1905.10044",
        official=FILES,
        recast=question_and_passage,
        reference=0.89,
        hub=f"{_HUB}:boolq",
    ),
    Task(
        name="CB",
        suite=SUITE,
        classes=("entailment", "contradiction", "neutral"),
        pair=True,
        metrics=("macro_f1", "accuracy"),
        citation="de Marneffe, Simons & Tonhauser, Sinn und Bedeutung 23, 2019",
        official=FILES,
        recast=premise_and_hypothesis,
        reference=0.958,
        hub=f"{_HUB}:cb",
    ),
    Task(
        name="COPA",
        suite=SUITE,
        kind="choice",
        options=2,
        citation="Roemmele, Bejan & Gordon, AAAI Spring Symposium 2011",
        official=FILES,
        recast=premise_and_question,
        chance=0.5,
        reference=1.0,
        hub=f"{_HUB}:copa",
    ),
    Task(
        name="MultiRC",
        suite=SUITE,
        classes=NO_YES,
        pair=True,
        metrics=("answer_f1", "question_match"),
        citation="Khashabi et al., NAACL 2018",
        official=FILES,
        recast=passage_and_answers,
        reference=0.818,
        hub=f"{_HUB}:multirc",
    ),
    Task(
        name="RTE-SuperGLUE",
        suite=SUITE,
        classes=ENTAILED,
        pair=True,
        citation="Dagan, Glickman & Magnini, MLCW 2005, and its successors, as joined in arXiv 1804.07461",
        folder="RTE",
        official=FILES,
        recast=premise_and_hypothesis,
        companions=(AX_B, AX_G),
        reference=0.936,
        hub=f"{_HUB}:rte",
    ),
    Task(
        name="WiC",
        suite=SUITE,
        classes=NO_YES,
        pair=True,
        citation="Pilehvar & Camacho-Collados, arXiv 1808.09121",
        official=FILES,
        recast=word_in_context,
        chance=0.5,
        reference=0.8,
        hub=f"{_HUB}:wic",
    ),
    Task(
        name="WSC",
        suite=SUITE,
        classes=NO_YES,
        pair=True,
        citation="Levesque, Davis & Morgenstern, KR 2012, as framed in arXiv 1905.00537",
        official=FILES,
        recast=pronoun_and_name,
        reference=1.0,
        hub=f"{_HUB}:wsc",
    ),
)
