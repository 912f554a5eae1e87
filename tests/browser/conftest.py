"""One Chromium for all tests of this folder, and the hand-written runs of tests/report.

This folder is collected only when it is named (`pytest tests/browser`); a machine without Chromium fails there.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loading import load

HERE = Path(__file__).parent
devtools = load(HERE / "devtools.py")
runs = load(HERE.parent / "report" / "conftest.py")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A headless Chromium with a new profile. Without one on PATH the tests fail and say what to install."""
    try:
        opened = devtools.Browser(tmp_path_factory.mktemp("profile"))
    except FileNotFoundError as error:
        pytest.fail(str(error))
    yield opened
    opened.close()


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """Writes a realistic run directory; see tests/report/conftest.py."""
    write: Callable[..., Path] = runs.write_run
    return write


@pytest.fixture
def write_hostile_run() -> Callable[[Path, str], Path]:
    """Writes a run directory that consists of one text."""
    write: Callable[[Path, str], Path] = runs.write_hostile_run
    return write


@pytest.fixture(scope="session")
def injections() -> list[str]:
    """Strings that try to run, to load or to leave their place."""
    found: list[str] = runs.INJECTIONS
    return found
