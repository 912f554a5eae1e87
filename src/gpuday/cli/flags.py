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

    tasks: str = "pydocs"
    """Downstream tasks: pydocs, glue, names such as cola,rte, or none."""
    task_data: Path | None = None
    """Folder that holds the tasks' files."""
    protocol: Literal["P1", "P1-small"] = "P1"
    """P1: the paper's, one setting for all tasks. P1-small: the same at 5e-4 instead of 4e-5, for narrow encoders."""
    task_seeds: Whole = 1
    """Fine-tunings of each task, each with its own seed."""
    task_rows: Whole | None = None
    """At most this many training rows of a task; the protocol is then called P1-short."""
