"""The command line's own errors in our words: what was not understood, and what was probably meant."""

import functools
from collections.abc import Iterable
from typing import Literal, get_args, get_origin

from cyclopts import Argument, CoercionError, CycloptsError, MissingArgumentError, UnknownOptionError
from cyclopts.exceptions import RepeatArgumentError, UnknownCommandError, UnusedCliTokensError

from gpuday import presets
from gpuday.cli import COMMANDS, app, habits
from gpuday.core.errors import UsageError, did_you_mean, nearest
from gpuday.core.spelling import closest

DASHES = "\u2012\u2013\u2014\u2212"  # what word processors make of two hyphens
WHAT_A_FLAG_TAKES = {"int": "a whole number", "bool": "nothing, or true or false"}


def explain(error: CycloptsError) -> UsageError:
    """The error that says what is to be typed instead."""
    error.verbose = False
    command = " ".join(error.command_chain or ())
    where = f"gpuday {command}".strip()
    stray = error.unused_tokens or []
    if dashed := next((t for t in error.root_input_tokens or () if t[:1] in DASHES and len(t) > 1), ""):
        return UsageError(
            f"{dashed!r} begins with a dash that is no hyphen", where=where, fix=f"write --{dashed.lstrip(DASHES)}"
        )
    if isinstance(error, UnknownOptionError):
        word = (error.token.keyword or error.token.value).partition("=")[0]
        own = sorted({name for a in error.argument_collection for name in a.names if name.startswith("--")})
        return UsageError(f"Unknown option {word}", where=where, fix=_flag(word, own, command))
    if isinstance(error, UnknownCommandError):
        return UsageError(f'Unknown command "{stray[0]}"', where=where, fix=_command(stray[0]))
    if isinstance(error, CoercionError) and error.token is not None:
        return _value(error.token.keyword or "", error.token.value, error.target_type, where)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.keyword or error.argument.name
        if error.argument.parameter.required is not False and error.keyword is None and not error.argument.tokens:
            return _needs(error, command)
        tokens = list(error.root_input_tokens or ())
        after = tokens[tokens.index(name) + 1 :][:1] if name in tokens else []
        if after:  # a value such as -5m is read as a flag
            fix = f"write one behind it; one that begins with a hyphen as {name}={after[0]}"
            return UsageError(f"{name} has no value before {after[0]}", where=where, fix=fix)
        return UsageError(f"{name} has no value", where=where, fix=f"write one behind it; see {where} --help")
    if isinstance(error, RepeatArgumentError):
        return UsageError(f"{error.token.keyword} is given twice", where=where, fix="give it once")
    if isinstance(error, UnusedCliTokensError) and stray:
        fix = habits.misplaced(stray[0]) or "give values behind their flag, and a path with blanks in quotes"
        return UsageError(f"{stray[0]!r} is one word too many", where=where, fix=fix)
    return UsageError(str(error).splitlines()[0], where=where, fix=f"see {where} --help")


def _needs(error: MissingArgumentError, command: str) -> UsageError:
    """What a command cannot do without, as it is to be typed: words in their order, then flags."""
    assert error.argument is not None
    every = [argument for argument in app[command].assemble_argument_collection() if argument.required]
    typed = {a.name: _typed(a) for a in (*every, error.argument)}
    ordered = sorted(every, key=lambda a: (a.index is None, a.index or 0))
    line = " ".join(["gpuday", command, *(typed[a.name] for a in ordered or (error.argument,))])
    lone = len(every) < 2 and error.argument.index is not None
    other = f", or {error.argument.name} {typed[error.argument.name]}" if lone else ""
    missing = typed[error.argument.name]
    return UsageError(f"{command} needs {missing}", where=f"gpuday {command}", fix=f"{line}{other}")


def _typed(argument: Argument) -> str:
    word = argument.name.lstrip("-").upper()
    return word if argument.index is not None else f"{argument.name} {word}"


@functools.cache
def flags_of(command: str) -> list[str]:
    """The long flags of a command."""
    found = app[command].assemble_argument_collection()
    return sorted({name for argument in found for name in argument.names if name.startswith("--")})


def _flag(word: str, own: Iterable[str], command: str) -> str:
    typed = "--" + word.lstrip("-")
    if typed in (own := [*own, "--help", "--version"]):
        return f"write {typed}, with two hyphens"
    elsewhere = {name: flags_of(name) for name in COMMANDS if name != command}
    if having := [name for name, flags in elsewhere.items() if typed in flags]:
        return f"{typed} is a flag of {', '.join(having)}"
    if there := habits.flag_meant(word):
        return there
    bare = {flag.lstrip("-"): flag for flag in own}
    near = [bare[name] for name in closest(word.lstrip("-"), bare)]
    return did_you_mean(near) or f"known: {', '.join(sorted(own))}"


def _command(word: str) -> str:
    if there := habits.COMMANDS.get(word.casefold()):
        return f"write gpuday {there}"
    near = closest(word, COMMANDS)
    if not near and (word in presets.names() or word.endswith(".toml")):
        return f"write gpuday run {word}"
    return did_you_mean(near) or f"known: {', '.join(COMMANDS)}"


def _value(flag: str, value: str, kind: object, where: str) -> UsageError:
    at = flag or where
    if get_origin(kind) is Literal:
        options = [str(option) for option in get_args(kind)]
        fix = f"{nearest(value, options)} (one of {', '.join(options)})"
        return UsageError(f"{at} is {value!r}", where=at, fix=fix)
    name = getattr(kind, "__name__", str(kind))
    return UsageError(f"{at} is {value!r}", where=at, fix=f"give {WHAT_A_FLAG_TAKES.get(name, name)}")
