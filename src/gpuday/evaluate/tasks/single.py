"""Tasks that stand alone, each a suite of its own: SWAG and RACE, which choose, CoNLL-2003, which tags, SQuAD, which answers.

References: SWAG's and SQuAD 1.1's are from the abstracts of the papers cited. The others have none: RACE's abstract gives a
ceiling, not what people reach.
"""

from collections.abc import Iterator

from gpuday.evaluate.tasks.layouts import squad_record
from gpuday.evaluate.tasks.task import Record, Task


def start_and_ending(record: Record) -> Iterator[Record]:
    """SWAG: the first sentence; the options are the begin of the second with each of its endings, as in BERT."""
    options = [(record["sent2"] + " " + record[f"ending{i}"]).strip() for i in range(4)]
    yield {"text_a": record["sent1"], "options": options, "label": record.get("label")}


def article_and_questions(record: Record) -> Iterator[Record]:
    """RACE: the article; the options are the question with each answer, put where the question has a gap (`_`)."""
    several = isinstance(record["options"][0], list)
    questions = record["questions"] if several else [record["question"]]
    options, answers = (record["options"], record["answers"]) if several else ([record["options"]], [record["answer"]])
    name = record["id"] if several else record.get("example_id")
    for number, (question, choices, answer) in enumerate(zip(questions, options, answers, strict=True)):
        filled = [question.replace("_", c) if "_" in question else question + " " + c for c in choices]
        label = "ABCD".index(answer) if answer else -1
        yield {"text_a": record["article"], "options": filled, "label": label, "idx": f"{name}-{number}"}


def words_and_tags(record: Record) -> Iterator[Record]:
    """CoNLL-2003 on the hub, its tags as names."""
    yield {"words": record["tokens"], "labels": record["ner_tags"], "idx": record.get("id")}


def question_and_context(record: Record) -> Iterator[Record]:
    """SQuAD in its own fields, a question a line."""
    yield squad_record(record)


def _race(name: str, part: str, companions: tuple[Task, ...] = ()) -> Task:
    return Task(
        name=name,
        suite="race",
        kind="choice",
        options=4,
        citation="Lai et al., arXiv 1704.04683",
        in_mean=not part,
        folder="RACE",
        dev_file=f"dev/{part}" if part else "dev",
        test_file="",
        recast=article_and_questions,
        companions=companions,
        chance=0.25,
        hub=f"ehovy/race:{part or 'all'}",
    )


SWAG = Task(
    name="SWAG",
    suite="swag",
    kind="choice",
    options=4,
    citation="Zellers et al., arXiv 1808.05326",
    dev_file="val",
    test_file="",
    recast=start_and_ending,
    chance=0.25,
    reference=0.88,
    hub="allenai/swag:regular",
)
RACE = _race("RACE", "", (_race("RACE-middle", "middle"), _race("RACE-high", "high")))
CONLL = Task(
    name="CoNLL-2003",
    suite="conll",
    kind="tagging",
    metrics=("entity_f1", "accuracy"),
    citation="Tjong Kim Sang & De Meulder, CoNLL 2003",
    test_file="",
    official=("eng.train", "eng.testa"),
    recast=words_and_tags,
    chance=0.0,
    hub="lhoestq/conll2003",
)
SQUAD = Task(
    name="SQuAD",
    suite="squad",
    kind="span",
    pair=True,
    metrics=("span_f1", "exact_match"),
    citation="Rajpurkar et al., arXiv 1606.05250",
    test_file="",
    official=("train-v1.1.json", "dev-v1.1.json"),
    recast=question_and_context,
    chance=0.0,
    reference=0.868,
    hub="rajpurkar/squad",
)
SQUAD_2 = Task(
    name="SQuAD-2",
    suite="squad",
    kind="span",
    pair=True,
    metrics=("span_f1", "exact_match"),
    citation="Rajpurkar, Jia & Liang, arXiv 1806.03822",
    test_file="",
    official=("train-v2.0.json", "dev-v2.0.json"),
    recast=question_and_context,
    hub="rajpurkar/squad_v2",
)
SINGLE = (SWAG, RACE, CONLL, SQUAD, SQUAD_2)
