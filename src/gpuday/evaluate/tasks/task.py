"""A downstream task as one frozen value."""

from dataclasses import dataclass
from typing import Literal

Metric = Literal["accuracy", "f1", "matthews", "pearson", "spearman"]
Kind = Literal["classification", "regression"]


@dataclass(frozen=True, kw_only=True)
class Tsv:
    """Columns of a task's tab-separated file in the layout of gluebenchmark.com."""

    text_a: str
    text_b: str | None = None
    label: str = "label"
    names: tuple[str, ...] = ()
    """Names of the columns where the file has no header line."""


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
    """Names of the labels 0, 1, ...; empty for regression, whose labels are real numbers."""
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
    tsv: Tsv | None = None
    """Columns of the official file; None where there is none."""

    @property
    def main(self) -> Metric:
        return self.metrics[0]

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return 1 if self.kind == "regression" else len(self.classes)
