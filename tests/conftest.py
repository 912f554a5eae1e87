"""What every test starts from: few threads, no network, no home folder, and property tests without deadlines."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported: workers beside each other share the cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the network is a fault
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import pytest

# Started in the background of a script, the runner ignores Ctrl-C, and every process of a test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A busy machine is slow now and then, which says nothing about the code; the same examples each time make a failure
# repeat for whoever looks at it.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")

# Folders that need what not every machine has. They run when they are named: `pytest tests/browser`.
ONLY_WHEN_NAMED = ("browser", "gpu")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the special folders unless the command line names them; None lets pytest decide."""
    here = Path(__file__).parent
    special = [here / name for name in ONLY_WHEN_NAMED if (here / name) in (collection_path, *collection_path.parents)]
    named = [Path(str(a).partition("::")[0]).resolve() for a in config.args]
    return True if special and not any(special[0] in (n, *n.parents) for n in named) else None


_imported = [0]  # modules that were loaded each time that the collector was told to pass over them


def set_aside() -> None:
    """Let Python's collector pass over all that is there, where much was imported since the last time. What is imported
    stays to the end, and looking through it again and again took a fifth of the time of these tests."""
    if len(sys.modules) > _imported[-1] + 200:
        gc.collect()
        gc.freeze()
        _imported.append(len(sys.modules))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Nothing that collection makes can be let go of before its end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        set_aside()


@pytest.fixture(scope="module", autouse=True)
def imports_set_aside() -> None:
    """Those of the module before, which are made when they are needed."""
    set_aside()


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the caches and settings of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))


@pytest.fixture(scope="session")
def tiny_toml() -> Callable[..., str]:
    """Writes a preset file of a model that trains in a second: `tiny_toml(base="bert", budget="4steps", batch=..., train=...)`.

    `batch` and `train` are lines added to the tables of those names.
    """

    def make(*, base: str = "modern", budget: str, rows: int = 8, batch: str = "", train: str = "") -> str:
        return f"""
base = "{base}"
size = "nano"
budget = "{budget}"

[data]
corpus = ["synthetic:20000"]
vocab = 512
length = 32

[model]
width = 32
mixer = {{ head_width = 16 }}
shape = {{ layers = 2 }}

[batch]
rows = {rows}
{batch}

[train]
microbatch = 4
compile = "off"
dtype = "float32"
{train}
"""

    return make
