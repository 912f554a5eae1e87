"""Docstrings as prose: found in source text by `ast`, stripped of code, tables and markup.

Run as a script, it reads paths from standard input and writes the prose of each file as one line of JSON, so that many
files are parsed by several processes. It imports nothing of the project.
"""

import ast
import gc
import inspect
import json
import re
import sys
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

MIN_WORDS = 6
MIN_LETTERS = 0.78  # share of letters and spaces in a paragraph of prose; signatures, tables and paths have less

_ROLE = re.compile(r":[a-zA-Z]+(?::[a-zA-Z]+)*:`~?\.?([^`<]+?)\s*(?:<[^`>]*>)?`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`_+")
_TICKS = re.compile(r"`+([^`]*)`+_?")
_STARS = re.compile(r"(?<!\w)\*{1,2}([^*\s][^*]*?)\*{1,2}(?!\w)")
_MARKDOWN_LINK = re.compile(r"\[([^\]]+)\]\([^)\s]+\)")
_RULE = re.compile(r"\s*([=\-~^\"'#*+.`_])\1{2,}\s*")
_DIRECTIVE = re.compile(r"\s*\.\. [\w:+-]+::.*|\s*:[\w-]+:(?!`).*|\s*\.\. _[^:]+:.*")
_FIELD = re.compile(r"\s*:(?:param|arg|return|returns|rtype|type|raises|keyword|ivar|var)\b[^:]*:\s*")
_NUMPY_TYPE = re.compile(r"\s*\*{0,2}[\w.]+(?:, ?\*{0,2}[\w.]+)* ?:(?: .{0,120})?")
_GOOGLE_ARGUMENT = re.compile(r"\s*[-*]?\s*`{0,2}\*{0,2}[\w.]+`{0,2} ?\([^)]*\)\s*:\s*")
_BULLET = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s+")
_HEADING = re.compile(r"\s*[A-Z][A-Za-z ]{2,30}:?\s*")
_DOCUMENTED_CALLS = ("add_docstr", "add_newdoc", "add_docstr_all", "_add_docstr")


def docstrings(source: bytes) -> Iterator[str]:
    """Docstrings of a source file in order, cleaned of indentation; none for a file that does not parse.

    Literals given to `add_docstr(...)` and the like count too: torch and numpy document their C functions so.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's files
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for text in _literals(tree):
        yield inspect.cleandoc(text)


def topics(source: bytes) -> Iterator[str]:
    """Values of the dictionary in `pydoc_data/topics.py`: the language reference as plain text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            for value in node.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield inspect.cleandoc(value.value)


def file_prose(path: Path, seen: set[str]) -> list[list[str]]:
    """Paragraphs of each docstring of a file, without docstrings that are in `seen`, to which new ones are added."""
    raw = path.read_bytes()
    found: Iterator[str] = iter(())
    if path.parts[-2:] == ("pydoc_data", "topics.py"):
        found = topics(raw)
    elif b'"""' in raw or b"'''" in raw:
        found = docstrings(raw)
    texts = []
    for text in found:
        if text not in seen:
            seen.add(text)
            texts.append(prose(text))
    return [paragraphs for paragraphs in texts if paragraphs]


def prose(docstring: str) -> list[str]:
    """Paragraphs of a docstring that are prose, each on one line without markup."""
    paragraphs = (_clean(lines) for lines in _blocks(docstring))
    return [p for p in paragraphs if _is_prose(p)]


def _literals(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    text = ast.get_docstring(node, clean=False)
    if text:
        yield text
    yield from _inner(node.body)


def _inner(body: list[ast.stmt]) -> Iterator[str]:
    for child in body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _literals(child)
        elif isinstance(child, ast.If | ast.With | ast.Try):
            yield from _inner(child.body)
            yield from _inner(getattr(child, "orelse", []))
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            yield from _documented_call(child.value)


def _documented_call(call: ast.Call) -> Iterator[str]:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if name in _DOCUMENTED_CALLS:
        for argument in call.args:
            for node in ast.walk(argument):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
                    yield node.value


def _blocks(docstring: str) -> Iterator[list[str]]:
    """Groups of lines that belong together: borders are blank lines, bullets, arguments and section headings."""
    lines = docstring.expandtabs(4).splitlines()
    ruled = {i for i, (_, below) in enumerate(pairwise([*lines, ""])) if below.strip() and _RULE.fullmatch(below)}
    fenced, block = False, list[str]()
    for i, line in enumerate(lines):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        drop = fenced or i in ruled or _RULE.fullmatch(line) or line.lstrip().startswith("```")
        argument = _FIELD.match(line) or _GOOGLE_ARGUMENT.match(line)
        typed = _NUMPY_TYPE.fullmatch(line) and _is_deeper(lines, i)
        border = drop or typed or not line.strip() or (_DIRECTIVE.fullmatch(line) and not argument)
        if border or argument or _BULLET.match(line):
            if block:
                yield block
            block = []
        if argument:
            block = [line[argument.end() :]]
        elif not border:
            block.append(line)
    if block:
        yield block


def _is_deeper(lines: list[str], i: int) -> bool:
    """Whether the next line is indented more: 'x : int' above its description, not a sentence with a colon."""
    below = lines[i + 1] if i + 1 < len(lines) else ""
    return bool(below.strip()) and len(below) - len(below.lstrip()) > len(lines[i]) - len(lines[i].lstrip())


def _clean(lines: list[str]) -> str:
    if any(line.lstrip().startswith((">>>", "...", "$ ", "@", "import ", "from ")) for line in lines):
        return ""
    if len(lines) > 1 and _HEADING.fullmatch(lines[0]) and _is_deeper(lines, 0):
        lines = lines[1:]  # 'Returns:' above its indented text
    bullet = _BULLET.match(lines[0]) if lines else None
    if bullet:
        lines = [lines[0][bullet.end() :], *lines[1:]]
    text = " ".join(" ".join(lines).split())
    if "`" in text:
        text = _TICKS.sub(r"\1", _LINK.sub(r"\1", _ROLE.sub(r"\1", text)))
    if "](" in text:
        text = _MARKDOWN_LINK.sub(r"\1", text)
    if "*" in text:
        text = _STARS.sub(r"\1", text)
    return text.removesuffix("::").strip()


def _is_prose(paragraph: str) -> bool:
    if len(paragraph) < 24 or len(paragraph.split()) < MIN_WORDS:
        return False
    letters = sum(map(str.isalpha, paragraph)) + paragraph.count(" ")
    return letters >= MIN_LETTERS * len(paragraph) and "\0" not in paragraph and not _has_surrogate(paragraph)


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def main() -> None:
    """Answer every line of standard input, a path, with a line of JSON: the paragraphs of each of its docstrings."""
    gc.disable()  # it would take a third of the time to find nothing among millions of short-lived syntax nodes
    seen = set[str]()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(file_prose(Path(json.loads(line)), seen)) + "\n")


if __name__ == "__main__":
    main()
