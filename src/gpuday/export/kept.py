"""What a kept model's `task.json` says: what is asked of it and how its rows are read. Everything else that is known of it
stands in its card.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpuday.core import config
from gpuday.core.errors import DataError, UsageError
from gpuday.core.rundir import read_json, write_json
from gpuday.evaluate.checking import LEAST_TOKENS
from gpuday.evaluate.tasks.parsing import Columns
from gpuday.evaluate.tasks.task import Kind, Metric, Task
from gpuday.models.downstream import Head, Pooling

NAME = "task.json"
MOST_TOKENS = 1 << 16
MOST_CLASSES = 1 << 20
Format = Literal["transformers", "gpuday"]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A fine-tuned model but for its weights and its tokenizer."""

    format: Format
    """Whether a class of Transformers holds encoder and head, or our own code does."""
    subject: Literal["run", "huggingface"]
    """Whose encoder it was; a run's texts are framed by us, those of a Hugging Face folder by its tokenizer."""
    typed: bool
    """Whether rows have token types."""
    head: Head
    """Which layers stand between the encoder and the answer."""
    pooling: Pooling = "first"
    """What a head of whole rows reads of them."""
    width: int
    """Of the encoder's hidden states."""
    length: int
    """Longer rows are cut, to so many tokens; contexts of span tasks become several windows."""
    task: str
    """Name."""
    kind: Kind
    classes: tuple[str, ...]
    options: int
    pair: bool
    metrics: tuple[Metric, ...]
    may_be_absent: bool
    """Span: whether a question may have no answer."""
    columns: Columns
    """Of the files that it was fine-tuned on, and so of those that it is asked to answer."""
    protocol: str
    seed: int

    def __post_init__(self) -> None:
        if not LEAST_TOKENS <= self.length <= MOST_TOKENS or not 1 <= self.width <= MOST_TOKENS:
            raise UsageError(f"length {self.length} or width {self.width} is out of range", where="length")
        if len(self.classes) > MOST_CLASSES or not 1 <= self.as_task().outputs <= MOST_CLASSES:
            raise UsageError(f"{len(self.classes)} classes for a {self.kind}", where="classes")
        if self.format == "transformers" and self.head == "paper":
            raise UsageError("no class of Transformers has the head of the paper", where="head")
        if self.format == "transformers" and (self.head, self.pooling) == ("bert", "mean"):
            raise UsageError("the classes of Transformers for BERT read position 0", where="pooling")
        if self.kind == "choice" and not 2 <= self.options <= MOST_CLASSES:
            raise UsageError(f"a choice of {self.options}", where="options")

    def as_task(self) -> Task:
        """The task, for reading rows and answering them."""
        return Task(
            name=self.task,
            suite="kept",
            kind=self.kind,
            classes=self.classes,
            options=self.options,
            pair=self.pair,
            metrics=self.metrics,
        )


def write_kept(kept: Kept, folder: Path) -> None:
    """`task.json` of the folder."""
    write_json(folder / NAME, config.to_dict(kept))


def read_kept(folder: Path) -> Kept:
    """Raises DataError where the folder holds no kept model, or one whose `task.json` is not as we write it."""
    path = folder / NAME
    if not path.is_file():
        raise DataError(
            f"{folder} is not a kept model: it has no {NAME}",
            fix="give a folder below RUN/finetuned/, which gpuday evaluate --task FILE or --keep writes",
        )
    try:
        return config.from_dict(Kept, read_json(path))
    except UsageError as error:
        raise DataError(f"{path} is damaged: {error.what}", where=error.where, fix="keep the model again") from error
