"""A downstream task as one frozen value."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

Metric = Literal[
    "accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman",
    "entity_f1", "exact_match", "span_f1", "answer_f1", "question_match", "gender_parity",
]  # fmt: skip
Kind = Literal["classification", "regression", "choice", "tagging", "span"]
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Tsv:
    """Columns of a task's tab-separated file in the layout of gluebenchmark.com."""

    text_a: str
    text_b: str | None = None
    label: str = "label"
    names: tuple[str, ...] = ()
    """Names of the columns where the labelled files have no header line."""
    id: str = "index"
    """Number of the row in the test file."""
    test: tuple[str, ...] = ()
    """Names of text_a and text_b in the test file, where it has others."""

    def columns(self, *, labelled: bool) -> tuple[str, str | None, str | None]:
        """Names of (text_a, text_b, label) in a labelled file or in the test file."""
        if labelled:
            return self.text_a, self.text_b, self.label
        text_a, text_b = self.test or (self.text_a, self.text_b)
        return text_a, text_b, None


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked, how it is scored, and what its files are called."""

    name: str
    suite: str
    """Folder of its scores: `scores/<suite>/<name>/<seed>.json`."""
    version: int = 1
    """Raised when a change here changes scores; scores of another version are made anew."""
    kind: Kind = "classification"
    classes: tuple[str, ...] = ()
    """Names of the labels 0, 1, ...; empty for regression, whose labels are real numbers, for choice and for span. Of
    tagging they come from the data."""
    options: int = 0
    """Candidates of a row of a choice; 0 for the other kinds."""
    pair: bool = False
    """Whether a row has two texts."""
    metrics: tuple[Metric, ...] = ("accuracy",)
    """All that is reported; the first is the main one."""
    citation: str = ""
    in_mean: bool = True
    """Whether the suite's mean counts it."""
    train_file: str = "train"
    """Name of the train file without its ending."""
    dev_file: str = "dev"
    """Name of the file that is scored, without its ending."""
    test_file: str = "test"
    """Name of the file that is answered without labels, for a submission, without its ending."""
    folder: str = ""
    """Folder of its files below the task data; empty: the name."""
    official: tuple[str, ...] = ()
    """Whole names of the train, dev and test file as they are published, where they differ; empty: there is none."""
    tsv: Tsv | None = None
    """Columns of the official table; None where there is none."""
    recast: Callable[[Record], Iterable[Record]] | None = None
    """Makes flat rows (`text_a`, `text_b`, `options`, `label`, `group`, `idx`) of a record of the official JSON lines."""
    companions: tuple["Task", ...] = ()
    """Further dev sets that the same fine-tuned model is scored on, each as a task with its own name and metrics."""
    chance: float | None = None
    """Main metric of guessing; None: that of the best constant answer."""
    reference: float | None = None
    """Main metric of people, a share of 1; the source stands where the tasks do. None: nothing is published."""
    hub: str = ""
    """`name:configuration:split` on the Hugging Face hub; without the latter the dev rows are the split `validation`."""

    @property
    def main(self) -> Metric:
        return self.metrics[0]

    @property
    def grouped(self) -> bool:
        """Whether a metric scores rows together, so that each of them needs a `group`."""
        return "question_match" in self.metrics or "gender_parity" in self.metrics

    @property
    def outputs(self) -> int:
        """Width of the head."""
        widths = {"regression": 1, "choice": 1, "span": 2}
        return widths.get(self.kind, len(self.classes))
