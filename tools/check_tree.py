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
# Modules that turn bytes into objects by running what the bytes say. `multiprocessing` is not among them: what it pickles
# travels between two processes of ours over a pipe, and no file or stranger can put anything in. Its sockets are.
UNTRUSTED_MODULES = {
    *(
        "pickle",
        "_pickle",
        "cPickle",
        "pickletools",
        "dill",
        "cloudpickle",
        "marshal",
        "shelve",
        "joblib",
        "jsonpickle",
    ),
    *("runpy", "imp", "codeop", "torch.hub", "torch.package", "torch.utils.cpp_extension", "torch.utils.model_zoo"),
    *("multiprocessing.connection", "multiprocessing.managers"),
}
# Modules that speak to other machines.
NETWORK_MODULES = {
    *(
        "urllib.request",
        "http.client",
        "http.server",
        "socketserver",
        "ftplib",
        "smtplib",
        "poplib",
        "imaplib",
        "xmlrpc",
    ),
    *("requests", "httpx", "aiohttp", "websockets", "urllib3", "huggingface_hub", "wandb", "trackio", "sentry_sdk"),
}
# `hub:` corpora go through this one, which their source imports when it is asked for, and no module by a statement.
IMPORTED_WHEN_ASKED = {"datasets"}
UNTRUSTED_NAMES = {
    *("eval", "exec", "compile", "__import__"),
    *("torch.load", "torch.save", "torch.jit.load", "torch.serialization.load", "torch.serialization.save"),
    *("torch.serialization.add_safe_globals", "torch.ops.load_library", "torch.distributed.checkpoint"),
    *("numpy.load", "numpy.save", "numpy.savez", "numpy.fromregex", "numpy.lib.npyio"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.Loader", "yaml.UnsafeLoader"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
    *("tempfile.mktemp", "os.tempnam", "shutil.unpack_archive", "importlib.reload"),
    *("importlib.import_module", "importlib.util.spec_from_file_location", "importlib.machinery.SourceFileLoader"),
    *("socket.socket", "socket.create_connection", "socket.getaddrinfo"),
}
UNTRUSTED_METHODS = {"extractall", "read_pickle", "to_pickle", "exec_module", "load_module"}
UNTRUSTED_FLAGS = {"shell", "trust_remote_code", "allow_pickle"}
SUBPROCESS = {f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")}
# (file, what): where it stands and why it may.
EXCEPTIONS = {
    # A part's name is compared with the modules that ship before any of them is imported; a user's own file is executed
    # because the user named it with --part.
    ("src/gpuday/core/parts.py", "importlib.import_module"),
    ("src/gpuday/core/parts.py", "importlib.util.spec_from_file_location"),
    ("src/gpuday/core/parts.py", "exec_module"),
    # A preset's name, compared likewise.
    ("src/gpuday/presets/__init__.py", "importlib.import_module"),
    # The soak starts itself again, with a module of its own table.
    ("tools/soak.py", "importlib.import_module"),
    # Other people's training code, in the checkout that whoever measures it names.
    ("benchmarks/peer_cramming.py", "importlib.import_module"),
}


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
    """Nothing runs what a data file, a checkpoint or a recipe contains, and nothing but `hub:` asks the network."""
    for path in python_files(root, "src", "tools", "benchmarks"):
        name, tree = path.relative_to(root).as_posix(), ast.parse(path.read_bytes(), str(path))
        aliases, own = _aliases(tree), _bound(tree)
        needless = {what for file, what in EXCEPTIONS if file == name}
        for node in ast.walk(tree):
            for what in _untrusted_at(node, aliases, own):
                needless.discard(what)
                if (name, what) not in EXCEPTIONS:
                    yield f"{name}:{getattr(node, 'lineno', 1)}: {what} is not used here"
        yield from (f"{name}:1: {what} is an exception that nothing needs any more" for what in sorted(needless))


def _bound(tree: ast.AST) -> set[str]:
    """Builtins whose names a file gives to arguments or variables of its own: reading one of those runs nothing."""
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return (arguments | stored) & UNTRUSTED_NAMES


def _aliases(tree: ast.AST) -> dict[str, str]:
    """What every imported name of a file stands for, wherever the import is, and names that were given another one."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for a in node.names:
                found[a.asname or a.name.partition(".")[0]] = a.name if a.asname else a.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and (name := _dotted(node.value, found)).partition(".")[0] in found.values():
            found.update({target.id: name for target in node.targets if isinstance(target, ast.Name)})
    return found


def _dotted(node: ast.AST, aliases: dict[str, str]) -> str:
    """`torch.load` for whatever expression names it: an alias, `getattr(torch, "load")`, `builtins.eval`; else empty."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id).removeprefix("builtins.")
    if isinstance(node, ast.Attribute):
        owner, name = _dotted(node.value, aliases), node.attr
    elif isinstance(node, ast.Call) and _dotted(node.func, {}) == "getattr" and len(node.args) > 1:
        owner, word = _dotted(node.args[0], aliases), node.args[1]
        name = word.value if isinstance(word, ast.Constant) and isinstance(word.value, str) else ""
    else:
        return ""
    return f"{owner}.{name}".removeprefix("builtins.") if owner and name else ""


def _within(name: str, modules: set[str]) -> bool:
    """Whether a dotted name is one of these, or lies in one."""
    parts = name.split(".")
    return any(".".join(parts[:n]) in modules for n in range(1, len(parts) + 1))


def _untrusted_at(node: ast.AST, aliases: dict[str, str], own: set[str]) -> Iterator[str]:
    watched = UNTRUSTED_MODULES | NETWORK_MODULES
    if isinstance(node, ast.Import):
        yield from (a.name for a in node.names if _within(a.name, watched | IMPORTED_WHEN_ASKED))
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        watched |= IMPORTED_WHEN_ASKED
        for name in (f"{node.module}.{a.name}".removeprefix("builtins.") for a in node.names):
            every = name.endswith(".*") and any(known.startswith(name[:-1]) for known in UNTRUSTED_NAMES | watched)
            if every or _within(name, watched) or (name in UNTRUSTED_NAMES and name not in _WHEN_CALLED):
                yield name
    elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
        name = _dotted(node, aliases)
        spelled = isinstance(node, ast.Attribute) or node.id == name  # an imported name was noticed at its import
        read = isinstance(node, ast.Name) and node.id in own  # an argument of this name: its call is looked at below
        if spelled and not read and name not in _WHEN_CALLED and (name in UNTRUSTED_NAMES or name in watched):
            yield name
        elif isinstance(node, ast.Attribute) and node.attr in UNTRUSTED_METHODS:
            yield node.attr
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in own:
            yield node.func.id
        yield from _untrusted_call(node, aliases)


_WHEN_CALLED = {"numpy.load", "numpy.save", "numpy.savez", "importlib.import_module"}  # innocent with some arguments


def _untrusted_call(node: ast.Call, aliases: dict[str, str]) -> Iterator[str]:
    called = _dotted(node.func, aliases)
    if isinstance(node.func, ast.Call) and called in UNTRUSTED_NAMES:  # getattr(torch, "load")(...)
        yield called
    flags = {k.arg: k.value for k in node.keywords if k.arg in UNTRUSTED_FLAGS}
    refused = {k for k, v in flags.items() if isinstance(v, ast.Constant) and v.value is False}
    yield from (f"{k}={ast.unparse(v)}" for k, v in flags.items() if k not in refused)
    local = any(k.arg == "local_files_only" and ast.unparse(k.value) == "True" for k in node.keywords)
    loads = isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained"
    if loads and not local and flags.keys() <= refused:
        yield "from_pretrained without local_files_only=True"
    if called.startswith("numpy.") and called in _WHEN_CALLED and "allow_pickle" not in flags:
        yield f"{called} without allow_pickle=False"
    first = node.args[0] if node.args else None
    text = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
    if called == "importlib.import_module" and text is None:
        yield called
    elif called == "importlib.import_module" and text and _within(text, UNTRUSTED_MODULES | NETWORK_MODULES):
        yield text
    if called in SUBPROCESS and (text is not None or isinstance(first, ast.JoinedStr | ast.BinOp)):
        yield f"{called} of a command in one string"


RULES = (too_long, drawers, without_tests, without_promise, untrusted)


def offences(root: Path) -> list[str]:
    """Every offence against every rule, as `file:line: what`."""
    return [line for rule in RULES for line in rule(root)]


if __name__ == "__main__":
    found = offences(ROOT)
    print("\n".join([*found, f"tree rules: {len(found)} offences" if found else "tree rules: kept"]))
    sys.exit(1 if found else 0)
