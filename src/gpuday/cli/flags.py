"""The one table of flags, shared by every command. A flag takes one value, so that a preset can stand anywhere."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, Token

from gpuday.core.errors import UsageError


def whole(_kind: type, tokens: Sequence[Token]) -> int:
    """A whole number as it stands: 1.5 is none, and is not rounded to one."""
    (token,) = tokens
    if re.fullmatch(r"[+-]?[0-9_]{1,30}", token.value.strip()):
        return int(token.value)
    fix = "give a whole number"
    if re.fullmatch(r"[0-9]{1,9}\.[0-9]+|[0-9]e[0-9]", token.value):
        fix += f": {round(float(token.value))}"
    raise UsageError(f"{token.keyword} is {token.value!r}", where=str(token.keyword), fix=fix)


Whole = Annotated[int, Parameter(converter=whole)]
Folders = Annotated[tuple[Path, ...], Parameter(negative=())]
Mnli = Literal["once", "twice"]
All = Annotated[bool, Parameter(name="--all", negative=())]
TextColumns = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """Flags of every command."""

    json: Annotated[bool, Parameter(negative=())] = False
    """One JSON line per event, as when the output is not a terminal."""
    debug: Annotated[bool, Parameter(negative=())] = False
    """Show the traceback of an error."""
    part: Annotated[tuple[Path, ...], Parameter(negative=(), show_default=False)] = ()
    """Make the part in your own Python file known under the file's name. The file is executed."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Flags(Output):
    """Flags of the commands that make a recipe."""

    corpus: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = ()
    """Text to train on: a file, folder or glob; hub:NAME[:config[:split]]; pydocs. Repeat it for more. [pydocs]"""
    heldout: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = ()
    """Held-out text; without it some is split off the corpus. Repeat it for more."""
    documents: Literal["blank", "line", "file"] | None = None
    """What ends a document in txt files. [blank]"""
    budget: str | None = None
    """What training may spend: 10m, 24h, 2e9tok, 5000steps, 1e18flop. [24h]"""
    size: str | None = None
    """nano, micro, mini, small, base, large, or auto: by device and budget. [auto]"""
    tokenizer: str | None = None
    """bpe, wordpiece, or a tokenizer.json."""
    vocab: Whole | None = None
    """Size of a trained vocabulary, a multiple of 64."""
    out: Path | None = None
    """The run's folder. [runs/ and the recipe's name and hash]"""
    seed: Whole | None = None
    """Seed of every random stream. [0]"""
    set: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = ()
    """Change one value of the recipe: key=value, e.g. optimizer.lr=1e-3. Repeat it for more."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TaskFlags:
    """Flags of the commands that score a model."""

    tasks: str | None = None
    """Downstream tasks: glue, superglue, pydocs, names such as cola,rte, or none. [pydocs; none beside --task]"""
    task_data: Path | None = None
    """Folder that holds the tasks' files, or hub for those of the Hugging Face hub."""
    task: Path | None = None
    """A task of your own: CSV, TSV, JSONL or parquet with --text and --label, CoNLL columns, or SQuAD's JSON."""
    text: str | None = None
    """Column of the text in --task."""
    text_b: str | None = None
    """Column of the second text in --task, where a row has two."""
    label: str | None = None
    """Column of the answer in --task."""
    dev: Path | None = None
    """File whose rows --task is scored on. [some of its own rows]"""
    protocol: Literal["P1", "P1-small", "P1-short", "P1-small-short", "P2"] = "P1"
    """P1: the paper's. -small: for narrow encoders. -short: 8,000 training rows, 3 seeds. P2: a sweep for each task."""
    task_seeds: Whole | None = None
    """Fine-tunings of each task, each with its own seed. [the protocol's, 5 or 3; 1 in gpuday run]"""
    task_rows: Whole | None = None
    """At most this many training rows of a task, which the protocol's name then says: P1-rows-500."""
    pooling: Literal["first", "mean"] | None = None
    """What heads of whole rows read: position 0, or the mean of all tokens; the protocol's name then says it. [the model's]"""
    train_fraction: str | None = None
    """Shares of the training rows, each scored, from which curves are made: 1,0.5,0.25,0.1. [1]"""
    untrained: Annotated[bool, Parameter(negative=())] = False
    """Score the same architecture with fresh weights as well."""
    keep: Annotated[bool, Parameter(negative=())] = False
    """Keep fine-tuned models and their predictions; those of --task are kept always."""
    pairs: Path | None = None
    """Minimal pairs to tell apart without fine-tuning: a JSONL file, or a folder of them such as BLiMP's."""
    pll: Literal["original", "within_word_l2r"] | None = None
    """What is masked to score a token of --pairs: it alone, or with it what follows in its word. [within_word_l2r]"""
    perplexity: Path | None = None
    """A text file whose pseudo-perplexity and masked bits per byte are measured."""
    submission: Path | None = None
    """Write the zip that GLUE's server takes, from the test files in --task-data."""
    submission_fill: Annotated[bool, Parameter(negative=())] = False
    """Answer the test sets that are missing with a constant, which the server takes and scores as such."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ScoreFlags(TaskFlags):
    """Flags of `gpuday evaluate`."""

    out: Path | None = None
    """Where the scores of a Hugging Face folder go. [runs/ and the folder's name with -scores]"""
