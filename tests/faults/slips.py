"""Slips of the keyboard, and the words of the command line that they can happen to, each with the command it stands in."""

import contextlib
import dataclasses
import io
import random
import string
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gpuday import presets
from gpuday.cli import COMMANDS, main
from gpuday.cli.resolve import DEFAULT_PRESET
from gpuday.cli.usage import flags_of
from gpuday.core import config, parts
from gpuday.core.clock import Budget
from gpuday.evaluate.tasks.selection import BY_NAME, SUITES
from gpuday.presets.sizes import SIZES
from gpuday.recipe import KINDS

DAY = Budget.parse("24h")
# Where a recipe takes a part of the kind; sources are named by --corpus, which takes paths too.
PLACES = {
    "filter": 'data.filters=[{{part="{}"}}]',
    "order": "data.order={}",
    "mixer": "model.mixer={}",
    "feedforward": "model.feedforward={}",
    "shape": "model.shape={}",
    "objective": "objective={}",
    "optimizer": "optimizer={}",
    "schedule": "rate={}",
}
Slips = Callable[[str], Iterator[str]]


@dataclass(frozen=True)
class Word:
    """A word, how a command asks with it, and the other words that are valid in its place."""

    kind: str
    text: str
    command: Callable[[str], list[str]]
    valid: frozenset[str]
    file: Callable[[str], str] | None = None
    """The text of `slip.toml`, where the word stands in it and not in the command."""


def deletions(word: str) -> Iterator[str]:
    """A letter is left out."""
    return (word[:i] + word[i + 1 :] for i, c in enumerate(word) if c.isalnum())


def doublings(word: str) -> Iterator[str]:
    """A letter comes twice."""
    return (word[:i] + c + word[i:] for i, c in enumerate(word) if c.isalnum())


def transpositions(word: str) -> Iterator[str]:
    """Two neighbours change places."""
    return (word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1) if word[i] != word[i + 1])


def substitutions(word: str) -> Iterator[str]:
    """Another letter in a letter's place."""
    return (
        word[:i] + x + word[i + 1 :]
        for i, c in enumerate(word)
        if c.isalnum()
        for x in string.ascii_lowercase
        if x != c
    )


def insertions(word: str) -> Iterator[str]:
    """A letter more, anywhere but before the first."""
    return (word[:i] + x + word[i:] for i in range(1, len(word) + 1) for x in string.ascii_lowercase)


SLIPS: tuple[Slips, ...] = (deletions, doublings, transpositions, substitutions, insertions)


def words() -> list[Word]:
    """Every command, flag, preset, size, kind, part, key, literal and task."""
    flags = {command: flags_of(command) for command in COMMANDS}
    found = [Word("command", name, lambda w: [w], frozenset(COMMANDS)) for name in COMMANDS]
    for command, own in flags.items():
        found += [
            Word("flag", f[2:], lambda w, c=command: [c, f"--{w}", "1"], frozenset(x[2:] for x in own)) for f in own
        ]
    found += [Word("preset", n, lambda w: ["show", w], frozenset(presets.names())) for n in presets.names()]
    sizes = frozenset((*SIZES, "auto"))
    found += [Word("size", n, lambda w: ["show", DEFAULT_PRESET, "--size", w], sizes) for n in SIZES]
    listed = frozenset((*KINDS, "parts", "presets", "sizes", "runs"))
    found += [Word("kind", n, lambda w: ["list", w], listed) for n in sorted(listed)]
    tasks = frozenset((*BY_NAME, *(n.replace("-", "") for n in BY_NAME), *SUITES, "none"))
    found += [
        Word("task", n, lambda w: ["evaluate", "no-run", "--tasks", w], tasks) for n in (*BY_NAME, *SUITES, "none")
    ]
    for kind, place in PLACES.items():
        names = parts.names(KINDS[kind])
        found += [
            Word("part", n, lambda w, p=place: ["show", "modern", "--set", p.format(w)], frozenset(names))
            for n in names
        ]
    for preset in presets.names():
        found += _of_recipe(preset)
    return found


def _of_recipe(preset: str) -> Iterator[Word]:
    """Keys and literals of a preset's recipe."""
    recipe = presets.find(preset)("nano", DAY)
    known = config.paths(recipe)
    for path in known:
        yield Word("key", path, lambda w: ["show", preset, "--set", f"{w}=1"], frozenset(known))
        table = path.rpartition(".")[0]
        text = f'base = "{preset}"\n' + (f"[{table}]\n" if table else "")
        yield Word(
            "toml", path, lambda _: ["show", "slip.toml"], frozenset(known),
            lambda w, t=table, k=text: f"{k}{w.removeprefix(t + '.')} = 1\n",
        )  # fmt: skip
    for path, options in _literals(recipe):
        for option in options:
            yield Word("literal", option, lambda w, p=path: ["show", preset, "--set", f'{p}="{w}"'], frozenset(options))


def _literals(value: object, where: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    hints = typing.get_type_hints(type(value))
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        at, inner = f"{where}.{field.name}".lstrip("."), getattr(value, field.name)
        if typing.get_origin(hints[field.name]) is typing.Literal:
            yield at, typing.get_args(hints[field.name])
        elif dataclasses.is_dataclass(inner):
            yield from _literals(inner, at)


def sample(word: Word, draw: random.Random, most: int) -> tuple[list[str], int]:
    """At most so many slips of each sort, and how many slips gave another valid word."""
    table = word.text.rpartition(".")[0] + "." if word.kind == "toml" and "." in word.text else ""
    made, other = list[str](), 0
    for slips in SLIPS:
        all_ = sorted({table + s for s in slips(word.text.removeprefix(table))} - {word.text})
        kept = [s for s in all_ if s not in word.valid and s]
        other += len(all_) - len(kept)
        made += draw.sample(kept, min(most, len(kept)))
    return made, other


def ask(arguments: list[str]) -> tuple[object, str]:
    """Exit code and standard error of a command in this process."""
    out, err, code = io.StringIO(), io.StringIO(), object()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code
    return code, err.getvalue()


def suggested(err: str) -> list[str]:
    """The words behind 'did you mean', in their order, as they stand there."""
    _, _, after = err.partition("did you mean ")
    return [w.strip("'") for part in after.partition("?")[0].split(", ") for w in part.split(" or ")] if after else []
