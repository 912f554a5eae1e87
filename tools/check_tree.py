"""Rules of the tree that no linter knows: file sizes, no drawers, a test file for every module, nothing that runs data.

Prints each offence as `file:line: what` and exits with 1 when there is one. Used by `make check` and by
`tests/architecture`, which calls `offences`.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CEILING = 400
DRAWERS = {"util", "utils", "helper", "helpers", "misc", "common"}
UNTRUSTED_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
UNTRUSTED_CALLS = {"eval", "exec", "torch.load", "yaml.load", "os.system"}
UNTRUSTED_FLAGS = {"shell", "trust_remote_code", "allow_pickle"}


def python_files(root: Path, *folders: str) -> list[Path]:
    """All Python files under the named folders that exist, sorted."""
    return sorted(p for folder in folders for p in (root / folder).rglob("*.py"))


def too_long(root: Path) -> Iterator[str]:
    """A file that cannot be read in one sitting holds two things."""
    for path in python_files(root, "src", "tests", "benchmarks", "tools"):
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > CEILING:
            yield f"{path.relative_to(root)}:{CEILING + 1}: {count} lines, ceiling {CEILING}: split it by what it does"


def drawers(root: Path) -> Iterator[str]:
    """A module named after nothing in particular collects everything."""
    for path in python_files(root, "src", "tests", "benchmarks", "tools"):
        name = path.parent.name if path.name == "__init__.py" else path.stem
        if name in DRAWERS:
            yield f"{path.relative_to(root)}:1: {name!r} is a drawer, not a room: name it after what it does"


def without_tests(root: Path) -> Iterator[str]:
    """Every module has its test file in the same folder of tests/; presets share one."""
    package = root / "src" / "gpuday"
    for path in python_files(root, "src/gpuday"):
        if path.stem.startswith("__"):
            continue
        folder = path.relative_to(package).parent
        wanted = [root / "tests" / folder / f"test_{path.stem.lstrip('_')}.py"]
        if folder.parts[:1] == ("presets",):
            wanted.append(root / "tests" / "presets" / "test_presets.py")
        if not any(w.is_file() for w in wanted):
            yield f"{path.relative_to(root)}:1: no test file {wanted[0].relative_to(root)}"


def without_promise(root: Path) -> Iterator[str]:
    """The docstring of a test is the promise it holds."""
    for path in python_files(root, "tests"):
        if not path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            if not ast.get_docstring(node):
                yield f"{path.relative_to(root)}:{node.lineno}: {node.name} does not say in a docstring what it promises"


def untrusted(root: Path) -> Iterator[str]:
    """Nothing in the package runs what a data file, a checkpoint or a recipe contains."""
    for path in python_files(root, "src"):
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            for what in _untrusted_at(node):
                yield f"{path.relative_to(root)}:{getattr(node, 'lineno', 1)}: {what} is not used here"


def _untrusted_at(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (a.name for a in node.names if a.name.partition(".")[0] in UNTRUSTED_MODULES)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        if node.module.partition(".")[0] in UNTRUSTED_MODULES:
            yield node.module
        yield from (name for a in node.names if (name := f"{node.module}.{a.name}") in UNTRUSTED_CALLS)
    elif isinstance(node, ast.Call):
        if (name := ast.unparse(node.func)) in UNTRUSTED_CALLS:
            yield f"{name}()"
        for keyword in node.keywords:
            refused = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg in UNTRUSTED_FLAGS and not refused:
                yield f"{keyword.arg}={ast.unparse(keyword.value)}"


RULES = (too_long, drawers, without_tests, without_promise, untrusted)


def offences(root: Path) -> list[str]:
    """Every offence against every rule, as `file:line: what`."""
    return [line for rule in RULES for line in rule(root)]


if __name__ == "__main__":
    found = offences(ROOT)
    print("\n".join([*found, f"tree rules: {len(found)} offences" if found else "tree rules: kept"]))
    sys.exit(1 if found else 0)
