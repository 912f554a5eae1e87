import os
from pathlib import Path

import pytest

from gpuday.core.cache import cache_folder
from gpuday.core.errors import EnvironmentFault
from gpuday.data import docstrings
from gpuday.data.sources import _extraction

SENTENCE = "This sentence of the file number {} is long enough to be prose."


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Twenty modules with a docstring each, the last of which repeats the first."""
    paths = [tmp_path / f"m{i}.py" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_text(f'"""{SENTENCE.format(i % 19)}"""\n')
    return paths


def kept() -> Path:
    (path,) = (cache_folder() / "pydocs").iterdir()
    return path


def test_processes_find_what_one_loop_finds(files: list[Path]) -> None:
    """In the order of the files, however many processes there are; a copy may be left out, a first one never."""
    expected = [[[SENTENCE.format(i)]] for i in range(19)]
    found = _extraction.prose(files)
    assert found[:19] == expected
    assert found[19] in ([], [[SENTENCE.format(0)]])
    assert [docstrings.file_prose(path, set()) for path in files[:19]] == expected


def test_the_second_reading_parses_nothing(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from the cache folder, with the same result."""
    first = _extraction.prose(files)
    monkeypatch.setattr(_extraction, "_extract", lambda paths: pytest.fail("parsed again"))
    assert _extraction.prose(files) == first


def test_a_changed_file_is_noticed(files: list[Path]) -> None:
    """By its size or its time; the old result is replaced."""
    _extraction.prose(files)
    files[3].write_text(f'"""{SENTENCE.format("three")}"""\n')
    assert _extraction.prose(files)[3] == [[SENTENCE.format("three")]]
    files[4].write_text(files[4].read_text().replace("4", "5"))
    os.utime(files[4], (1, 1))
    assert _extraction.prose(files)[4] == [[SENTENCE.format(5)]]
    assert kept().is_file()


def test_new_rules_are_noticed(files: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The text of the rules is part of the key."""
    _extraction.prose(files)
    rules = tmp_path / "rules.py"
    rules.write_text(Path(docstrings.__file__).read_text() + "\n\n# another rule\n")
    monkeypatch.setattr(docstrings, "__file__", str(rules))
    before = kept().read_bytes()
    _extraction.prose(files)
    assert kept().read_bytes() != before


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_file_is_made_again(files: list[Path], damage: str) -> None:
    """A bit, an end or everything is missing: the result is right all the same, and so is the file."""
    expected = _extraction.prose(files)
    whole = kept().read_bytes()
    broken = {"flipped": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], "cut": whole[:-9], "empty": b""}
    kept().write_bytes(broken[damage])
    assert _extraction.prose(files) == expected
    assert kept().read_bytes() == whole


def test_a_file_that_vanishes_is_one_clear_error(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Between listing and reading: what the process said last, and a fix."""
    monkeypatch.setattr(_extraction, "_state", lambda paths: "state")
    files[2].unlink()
    with pytest.raises(EnvironmentFault, match=r"m2\.py") as fault:
        _extraction.prose(files)
    assert fault.value.fix
