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
        "import torch\nx = torch.load('a')",
        "from torch import load",
        "import yaml\nyaml.load('a')",
        "eval('1')",
        "exec('1')",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "def f(flag):\n    return load('a', allow_pickle=flag)",
        "import subprocess\nsubprocess.run('a', shell=True)",
        "def f():\n    return AutoModel.from_pretrained('a', trust_remote_code=True)",
    ],
)
def test_what_would_run_data_is_noticed(rules: ModuleType, tmp_path: Path, code: str) -> None:
    """Each way in which a file could become code."""
    write(tmp_path, "src/gpuday/a.py", code)
    assert len(list(rules.untrusted(tmp_path))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "import torch\nmodel = torch.compile(model)",
        "'''Never pickle, torch.load or eval(x).'''  # nor exec(y)",
        "from safetensors.torch import load_file\nload_file('a')",
        "np.load('a', allow_pickle=False)",
        "subprocess.run(['a'], shell=False)",
        "pickled_herring = 1",
    ],
)
def test_what_only_looks_like_it_is_left_alone(rules: ModuleType, tmp_path: Path, code: str) -> None:
    """The syntax tree is read, not the text: methods, comments and docstrings may use the words."""
    write(tmp_path, "src/gpuday/a.py", code)
    assert list(rules.untrusted(tmp_path)) == []
