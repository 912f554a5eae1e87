"""The tasks of GLUE (Wang et al., arXiv 1804.07461), scored on their dev sets as in Geiping & Goldstein, arXiv 2212.14034.

There MNLI's two dev sets both count in the mean; here the matched one counts once, and WNLI, whose dev set answers
train questions with the labels turned round, is reported outside the mean.
"""

from gpuday.evaluate.tasks.task import Task, Tsv

SUITE = "glue"
ENTAILED = ("entailment", "not_entailment")

GLUE: tuple[Task, ...] = (
    Task(
        name="CoLA",
        suite=SUITE,
        classes=("unacceptable", "acceptable"),
        metrics=("matthews", "accuracy"),
        citation="Warstadt, Singh & Bowman, arXiv 1805.12471",
        tsv=Tsv(text_a="sentence", names=("source", "label", "star", "sentence")),
    ),
    Task(
        name="SST-2",
        suite=SUITE,
        classes=("negative", "positive"),
        citation="Socher et al., EMNLP 2013",
        tsv=Tsv(text_a="sentence"),
    ),
    Task(
        name="MRPC",
        suite=SUITE,
        classes=("different", "paraphrase"),
        pair=True,
        metrics=("f1", "accuracy"),
        citation="Dolan & Brockett, IWP 2005",
        tsv=Tsv(text_a="#1 String", text_b="#2 String", label="Quality"),
    ),
    Task(
        name="STS-B",
        suite=SUITE,
        kind="regression",
        pair=True,
        metrics=("pearson", "spearman"),
        citation="Cer et al., arXiv 1708.00055",
        tsv=Tsv(text_a="sentence1", text_b="sentence2", label="score"),
    ),
    Task(
        name="QQP",
        suite=SUITE,
        classes=("different", "duplicate"),
        pair=True,
        metrics=("f1", "accuracy"),
        citation="Iyer, Dandekar & Csernai, Quora question pairs, 2017",
        tsv=Tsv(text_a="question1", text_b="question2", label="is_duplicate"),
    ),
    Task(
        name="MNLI",
        suite=SUITE,
        classes=("entailment", "neutral", "contradiction"),
        pair=True,
        citation="Williams, Nangia & Bowman, arXiv 1704.05426",
        dev_file="dev_matched",
        tsv=Tsv(text_a="sentence1", text_b="sentence2", label="gold_label"),
    ),
    Task(
        name="QNLI",
        suite=SUITE,
        classes=ENTAILED,
        pair=True,
        citation="Rajpurkar et al., arXiv 1606.05250, as recast in arXiv 1804.07461",
        tsv=Tsv(text_a="question", text_b="sentence"),
    ),
    Task(
        name="RTE",
        suite=SUITE,
        classes=ENTAILED,
        pair=True,
        citation="Dagan, Glickman & Magnini, MLCW 2005, and its successors, as joined in arXiv 1804.07461",
        tsv=Tsv(text_a="sentence1", text_b="sentence2"),
    ),
    Task(
        name="WNLI",
        suite=SUITE,
        classes=("not_entailment", "entailment"),
        pair=True,
        citation="Levesque, Davis & Morgenstern, KR 2012, as recast in arXiv 1804.07461",
        in_mean=False,
        tsv=Tsv(text_a="sentence1", text_b="sentence2"),
    ),
)
