"""The tiny training of tests/train, for tests that do something to it."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gpuday.core.errors import Interrupted
from gpuday.core.rundir import RunDir
from loading import load
from quick import disk_not_awaited, kernels_tried_once
from trained_run import STEADY

__all__ = ["disk_not_awaited", "kernels_tried_once"]

training = load(Path(__file__).parents[1] / "train" / "conftest.py")

# Fixtures are found by their names in a conftest.
make_recipe, tiny, data, vocabulary = training.make_recipe, training.tiny, training.data, training.vocabulary
pinned, run, train_run = training.pinned, training.run, training.train_run
send, at_step = training.send, training.at_step


@pytest.fixture(scope="session")
def stopped_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that were stopped after ten steps, under their budgets, to be copied."""
    return tmp_path_factory.mktemp("stopped")


@pytest.fixture
def stopped_at_10(
    train_run: Callable[..., Any], make_recipe: Callable[..., Any], at_step: Any, send: Any, run: Any,
    stopped_runs: Path,
) -> Callable[..., Any]:  # fmt: skip
    """`stopped_at_10(budget, at=run)`: a run that a signal stopped after ten steps, so that it has a checkpoint there."""

    def go(budget: str = "20steps", at: Any = run) -> Any:
        recipe, once = make_recipe(budget, **STEADY), RunDir(stopped_runs / budget)
        if not once.root.exists():
            with pytest.raises(Interrupted):
                train_run(recipe, at=once, tell=at_step(10, send(signal.SIGTERM)))
        shutil.copytree(once.root, at.root)
        return recipe

    return go


bad_numbers = load(Path(__file__).with_name("bad_numbers.py"))


@pytest.fixture
def numbers() -> ModuleType:
    """The module of bad numbers."""
    return bad_numbers


@pytest.fixture
def injector(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts bad numbers into the trainings of this test: `injector.bad.append(...)`."""
    return bad_numbers.Injector().installed(monkeypatch)


@pytest.fixture
def at_rows() -> Callable[..., list[Any]]:
    """`at_rows("NaN in the loss", 80, 88)`: bad numbers of a kind in the steps that begin with these rows."""
    return lambda kind, *rows: [bad_numbers.KINDS[kind](row) for row in rows]


kill_harness, kill_comparison = (load(Path(__file__).with_name(f"{name}.py")) for name in ("killing", "sameness"))


@pytest.fixture(scope="session")
def killing() -> ModuleType:
    """The harness that kills commands."""
    return kill_harness


@pytest.fixture(scope="session")
def sameness() -> ModuleType:
    """The comparison of a run that was killed with one that was not."""
    return kill_comparison


slip_generator = load(Path(__file__).with_name("slips.py"))


@pytest.fixture(scope="session")
def slips() -> ModuleType:
    """Slips of the keyboard, and the command line in this process."""
    return slip_generator


rotten, broken_disk = (load(Path(__file__).with_name(f"{name}.py")) for name in ("rot", "bad_disk"))


@pytest.fixture(scope="session")
def rot() -> ModuleType:
    """Damage to files that were written well."""
    return rotten


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A disk that fails when it is told to: `disk.fails(errno.ENOSPC, folder)`, `disk.recovers()`."""
    return broken_disk.Disk().installed(monkeypatch)


mistake_catalogue = load(Path(__file__).with_name("mistakes.py"))


@pytest.fixture(scope="session")
def mistakes() -> ModuleType:
    """The catalogue of mistakes."""
    return mistake_catalogue


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each mistake of the catalogue, by its name."""
    if "mistake" in metafunc.fixturenames:
        cases = mistake_catalogue.CATALOGUE
        metafunc.parametrize("mistake", cases, ids=[case.name for case in cases])
