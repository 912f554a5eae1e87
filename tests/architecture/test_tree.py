"""The tree: the rules of tools/check_tree.py hold here, and each of them notices what it is there for."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def rules() -> ModuleType:
    """The script as a module; it is no package."""
    spec = importlib.util.spec_from_file_location("check_tree", ROOT / "tools" / "check_tree.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("rule", ["too_long", "drawers", "without_tests", "without_promise", "untrusted"])
def test_the_tree_keeps_its_rules(rules: ModuleType, rule: str) -> None:
    """File sizes, names, tests for every module, promises of tests, nothing that runs what data contains."""
    assert list(getattr(rules, rule)(ROOT)) == []


def test_every_rule_is_one_that_is_run(rules: ModuleType) -> None:
    """`make check` and these tests look at the same list."""
    assert [r.__name__ for r in rules.RULES] == ["too_long", "drawers", "without_tests", "without_promise", "untrusted"]


def test_a_file_may_have_400_lines_and_not_401(rules: ModuleType, tmp_path: Path) -> None:
    """The ceiling is inclusive, and holds for tests and benchmarks too."""
    write(tmp_path, "src/gpuday/a.py", "x = 1\n" * 400)
    write(tmp_path, "tests/test_a.py", "x = 1\n" * 401)
    write(tmp_path, "benchmarks/b.py", "x = 1\n" * 401)
    assert [line.partition(" ")[0] for line in rules.too_long(tmp_path)] == [
        "benchmarks/b.py:401:",
        "tests/test_a.py:401:",
    ]


@pytest.mark.parametrize("name", ["utils.py", "util.py", "helpers.py", "misc.py", "common.py", "utils/__init__.py"])
def test_a_drawer_is_noticed(rules: ModuleType, tmp_path: Path, name: str) -> None:
    """As a module and as a package."""
    write(tmp_path, f"src/gpuday/data/{name}")
    assert len(list(rules.drawers(tmp_path))) == 1


def test_a_module_needs_its_own_test_file(rules: ModuleType, tmp_path: Path) -> None:
    """In the same folders; a private module's test drops the underscore, presets share one, dunders need none."""
    for name in ["__init__", "__main__", "cli", "optim/__init__", "optim/muon", "optim/_shared", "presets/bert"]:
        write(tmp_path, f"src/gpuday/{name}.py")
    write(tmp_path, "tests/test_muon.py")
    wanted = [
        "tests/optim/test_shared.py",
        "tests/optim/test_muon.py",
        "tests/presets/test_bert.py",
        "tests/test_cli.py",
    ]
    assert sorted(line.split()[-1] for line in rules.without_tests(tmp_path)) == sorted(wanted)
    for name in [*wanted[:2], wanted[3], "tests/presets/test_presets.py"]:
        write(tmp_path, name)
    assert list(rules.without_tests(tmp_path)) == []


def test_a_test_without_a_promise_is_noticed(rules: ModuleType, tmp_path: Path) -> None:
    """Also inside a class; helpers need none."""
    text = 'def test_a():\n    """Promises."""\n\n\ndef helper(): ...\n\n\nclass TestB:\n    def test_b(self): ...\n'
    write(tmp_path, "tests/test_a.py", text)
    assert [line.partition(" ")[0] for line in rules.without_promise(tmp_path)] == ["tests/test_a.py:9:"]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import pickle as p",
        "import os, dill",
        "from pickle import loads",
        "import cloudpickle",
        "import marshal",
        "import shelve",
        "import joblib",
        "from joblib import load",
        "import _pickle",
        "def f():\n    import pickle",
        "import torch\nx = torch.load('a')",
        "import torch\nloader = torch.load",
        "import torch\ntorch.save({}, 'a')",
        "from torch import load",
        "from torch import load as read",
        "from torch import *",
        "import torch as t\nt.load('a')",
        "import torch\nt = torch\nt.load('a')",
        "import torch\ngetattr(torch, 'load')('a')",
        "import torch\ntorch.hub.load('a', 'b')",
        "from torch import hub",
        "import torch.hub",
        "import torch\ntorch.jit.load('a')",
        "from torch.utils.cpp_extension import load_inline",
        "import yaml\nyaml.load('a')",
        "import yaml\nyaml.unsafe_load('a')",
        "from yaml import load",
        "eval('1')",
        "run = eval",
        "exec('1')",
        "compile('1', 'a', 'eval')",
        "__import__('a')",
        "import builtins\nbuiltins.eval('1')",
        "import builtins as b\nb.exec('1')",
        "from builtins import eval",
        "import importlib\ndef f(name):\n    return importlib.import_module(name)",
        "from importlib import import_module\nimport_module(name)",
        "import importlib\nimportlib.import_module('pickle')",
        "from importlib import util\nutil.spec_from_file_location('a', 'b')",
        "def f(spec, module):\n    spec.loader.exec_module(module)",
        "import runpy",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "import numpy as np\nnp.load('a')",
        "from numpy import load\nload('a')",
        "import numpy as np\nnp.save('a', x)",
        "def f(flag):\n    return load('a', allow_pickle=flag)",
        "import pandas as pd\npd.read_pickle('a')",
        "def f(frame):\n    frame.to_pickle('a')",
        "import subprocess\nsubprocess.run(['a'], shell=True)",
        "import subprocess\nsubprocess.run('a b')",
        "import subprocess as s\ns.Popen(f'ls {x}')",
        "from subprocess import check_output\ncheck_output('ls ' + x)",
        "import subprocess\nsubprocess.getoutput('a')",
        "import os\nos.system('a')",
        "from os import system",
        "import os as o\no.popen('a')",
        "def f():\n    return AutoModel.from_pretrained('a', trust_remote_code=True)",
        "import tempfile\ntempfile.mktemp()",
        "def f(archive):\n    archive.extractall('a')",
        "import shutil\nshutil.unpack_archive('a')",
        "from multiprocessing.connection import Client",
        "import urllib.request",
        "from urllib.request import urlopen",
        "import requests",
        "from huggingface_hub import snapshot_download",
        "import socket\nsocket.create_connection(('a', 1))",
        "import importlib\nimportlib.import_module('requests')",
        "def f(compile):\n    return compile('1', 'a', 'eval')",
        "def f(name):\n    return AutoModel.from_pretrained(name)",
        "def f(name):\n    return AutoModel.from_pretrained(name, local_files_only=False, trust_remote_code=False)",
        "def f(name, local):\n    return AutoModel.from_pretrained(name, local_files_only=local)",
        "from datasets import load_dataset",
        "import datasets",
        "def f():\n    import datasets.load as d",
    ],
)
@pytest.mark.parametrize("name", ["src/gpuday/a.py", "tools/a.py", "benchmarks/a.py"])
def test_what_would_run_data_is_noticed(rules: ModuleType, tmp_path: Path, code: str, name: str) -> None:
    """Each way in which a file could become code or a machine be called, under whatever name it is imported."""
    write(tmp_path, name, code)
    found = list(rules.untrusted(tmp_path))
    assert len(found) == 1 and found[0].startswith(f"{name}:{len(code.splitlines())}: ")


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "import torch\nmodel = torch.compile(model)",
        "def f(learner):\n    learner.compile()",
        "import re\nfrom re import compile\nre.compile('a')\ncompile('b')",
        "class C:\n    compile: str = 'auto'\n    def eval(self): ...",
        "'''Never pickle, torch.load or eval(x).'''  # nor exec(y)",
        "from safetensors.torch import load, load_file\nload_file('a')\nload(b'')",
        "import safetensors.torch as t\nt.load(b'')",
        "import numpy as np\nnp.load('a', allow_pickle=False)",
        "import json\njson.load(file)",
        "import yaml\nyaml.safe_load('a')",
        "import subprocess\nsubprocess.run(['a'], shell=False)\nsubprocess.run(command)",
        "import importlib\nimportlib.import_module('datasets')",
        "import importlib.util\nimportlib.util.find_spec('pickle')",
        "from importlib import metadata\nmetadata.version('a')",
        "import tempfile\nwith tempfile.TemporaryDirectory() as a: ...",
        "import multiprocessing\nmultiprocessing.Process(target=f)",
        "import socket\nsocket.gethostname()",
        "from urllib.parse import quote",
        "import torch\ndtype = getattr(torch, name)",
        "pickled_herring = 1",
        "def f(x):\n    return from_pretrained(x, trust_remote_code=False)",
        "def f(x):\n    return AutoModel.from_pretrained(x, local_files_only=True)",
        "def f(compile):\n    return compile == 'on'",
        "def f(eval: bool):\n    if eval:\n        exec = eval\n    return g(eval)",
    ],
)
def test_what_only_looks_like_it_is_left_alone(rules: ModuleType, tmp_path: Path, code: str) -> None:
    """The syntax tree is read, not the text: methods, comments and docstrings may use the words."""
    write(tmp_path, "src/gpuday/a.py", code)
    assert list(rules.untrusted(tmp_path)) == []


def test_an_exception_that_is_not_needed_is_reported(rules: ModuleType, tmp_path: Path) -> None:
    """The tool itself says so, by the file, where that is there; the others of the same file stay."""
    write(tmp_path, "src/gpuday/core/parts.py", "import importlib\nimportlib.import_module(name)\n")
    found = list(rules.untrusted(tmp_path))
    assert [line.split()[:2] for line in found] == [
        ["src/gpuday/core/parts.py:1:", "exec_module"],
        ["src/gpuday/core/parts.py:1:", "importlib.util.spec_from_file_location"],
    ]
    assert all("nothing needs" in line for line in found)


def test_every_exception_is_needed(rules: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the list each of its entries is found in the tree, and nothing else."""
    exceptions = set(rules.EXCEPTIONS)
    monkeypatch.setattr(rules, "EXCEPTIONS", set())
    found = {(line.partition(":")[0], line.split(": ")[1].split()[0]) for line in rules.untrusted(ROOT)}
    assert found == exceptions
    assert len(exceptions) <= 6
