"""The tasks of GLUE (Wang et al., arXiv 1804.07461), scored on their dev sets as in Geiping & Goldstein, arXiv 2212.14034.

There MNLI's two dev sets both count in the mean; here the matched one counts once, and the mismatched one and the
diagnostic set AX stand beside it. WNLI, whose dev set answers train questions with the labels turned round, is reported
outside the mean. The references are people's scores on the test sets (Nangia & Bowman, arXiv 1905.10425). A constant answer
correlates with nothing: the chance of a correlation is 0, that of the others the commonest answer of the data.
"""

from gpuday.evaluate.tasks.task import Task, Tsv

SUITE = "glue"
ENTAILED = ("entailment", "not_entailment")
INFERRED = ("entailment", "neutral", "contradiction")
_HUB = "nyu-mll/glue"

MNLI_MM = Task(
    name="MNLI-mm",
    suite=SUITE,
    classes=INFERRED,
    pair=True,
    citation="Williams, Nangia & Bowman, arXiv 1704.05426; genres that the train set does not have",
    in_mean=False,
    folder="MNLI",
    dev_file="dev_mismatched",
    test_file="test_mismatched",
    tsv=Tsv(text_a="sentence1", text_b="sentence2", label="gold_label"),
    reference=0.928,
    hub=f"{_HUB}:mnli:validation_mismatched",
)
AX = Task(
    name="AX",
    suite=SUITE,
    classes=INFERRED,
    pair=True,
    metrics=("matthews", "accuracy"),
    citation="Wang et al., arXiv 1804.07461: the diagnostic set, answered by the model of MNLI",
    in_mean=False,
    folder="diagnostic",
    official=("", "diagnostic-full.tsv", "diagnostic.tsv"),
    tsv=Tsv(text_a="Premise", text_b="Hypothesis", label="Label", test=("sentence1", "sentence2")),
    chance=0.0,
    hub=f"{_HUB}:ax:test",
)

GLUE: tuple[Task, ...] = (
    Task(
        name="CoLA",
        suite=SUITE,
        classes=("unacceptable", "acceptable"),
        metrics=("matthews", "accuracy"),
        citation="Warstadt, Singh & Bowman, arXiv 1805.12471",
        tsv=Tsv(text_a="sentence", names=("source", "label", "star", "sentence")),
        chance=0.0,
        reference=0.664,
        hub=f"{_HUB}:cola",
    ),
    Task(
        name="SST-2",
        suite=SUITE,
        classes=("negative", "positive"),
        citation="Socher et al., EMNLP 2013",
        tsv=Tsv(text_a="sentence"),
        reference=0.978,
        hub=f"{_HUB}:sst2",
    ),
    Task(
        name="MRPC",
        suite=SUITE,
        classes=("different", "paraphrase"),
        pair=True,
        metrics=("f1", "accuracy"),
        citation="Dolan & Brockett, IWP 2005",
        tsv=Tsv(text_a="#1 String", text_b="#2 String", label="Quality"),
        reference=0.863,
        hub=f"{_HUB}:mrpc",
    ),
    Task(
        name="STS-B",
        suite=SUITE,
        kind="regression",
        pair=True,
        metrics=("pearson", "spearman"),
        citation="Cer et al., arXiv 1708.00055",
        tsv=Tsv(text_a="sentence1", text_b="sentence2", label="score"),
        chance=0.0,
        reference=0.927,
        hub=f"{_HUB}:stsb",
    ),
    Task(
        name="QQP",
        suite=SUITE,
        classes=("different", "duplicate"),
        pair=True,
        metrics=("f1", "accuracy"),
        citation="Iyer, Dandekar & Csernai, Quora question pairs, 2017",
        tsv=Tsv(text_a="question1", text_b="question2", label="is_duplicate", id="id"),
        reference=0.595,
        hub=f"{_HUB}:qqp",
    ),
    Task(
        name="MNLI",
        suite=SUITE,
        classes=INFERRED,
        pair=True,
        citation="Williams, Nangia & Bowman, arXiv 1704.05426",
        dev_file="dev_matched",
        test_file="test_matched",
        tsv=Tsv(text_a="sentence1", text_b="sentence2", label="gold_label"),
        companions=(MNLI_MM, AX),
        reference=0.92,
        hub=f"{_HUB}:mnli:validation_matched",
    ),
    Task(
        name="QNLI",
        suite=SUITE,
        classes=ENTAILED,
        pair=True,
        citation="Rajpurkar et al., arXiv 1606.05250, as recast in arXiv 1804.07461",
        tsv=Tsv(text_a="question", text_b="sentence"),
        reference=0.912,
        hub=f"{_HUB}:qnli",
    ),
    Task(
        name="RTE",
        suite=SUITE,
        classes=ENTAILED,
        pair=True,
        citation="Dagan, Glickman & Magnini, MLCW 2005, and its successors, as joined in arXiv 1804.07461",
        tsv=Tsv(text_a="sentence1", text_b="sentence2"),
        reference=0.936,
        hub=f"{_HUB}:rte",
    ),
    Task(
        name="WNLI",
        suite=SUITE,
        classes=("not_entailment", "entailment"),
        pair=True,
        citation="Levesque, Davis & Morgenstern, KR 2012, as recast in arXiv 1804.07461",
        in_mean=False,
        tsv=Tsv(text_a="sentence1", text_b="sentence2"),
        reference=0.959,
        hub=f"{_HUB}:wnli",
    ),
)
