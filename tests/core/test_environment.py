"""The environment of a run: what it ran on, and nothing of whose machine it was."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from gpuday import __version__
from gpuday.core import environment as module
from gpuday.core.environment import LIBRARIES, environment, source_revision


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit that the package seems to run from."""
    source = tmp_path / "src" / "gpuday" / "core"
    source.mkdir(parents=True)
    (source / "environment.py").write_text("x = 1\n")
    (tmp_path / "notes.txt").write_text("a\n")
    monkeypatch.setattr(module, "__file__", str(source / "environment.py"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_versions_device_and_command_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against Python's own answers, as JSON values."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/gpuday", "run", "bert", "--seed", "3"])
    found = environment("a device")
    assert found["gpuday"] == __version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["device"] == "a device"
    assert found["command"] == ["gpuday", "run", "bert", "--seed", "3"]
    assert set(found["libraries"]) == set(LIBRARIES)
    assert found["libraries"]["numpy"] == metadata.version("numpy")
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    assert json.loads(json.dumps(found)) == found


def test_a_library_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """None, rather than a fault or a guess."""
    monkeypatch.setattr(module, "LIBRARIES", ("numpy", "no-such-library-at-all"))
    libraries = environment("")["libraries"]
    assert libraries["no-such-library-at-all"] is None
    assert libraries["numpy"] is not None


def test_no_variable_of_the_user_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, tokens and home folders stay out of a file that people publish."""
    monkeypatch.setenv("HF_TOKEN", "hf_a-very-secret-value")
    monkeypatch.setenv("HOME", "/home/somebody-in-particular")
    text = json.dumps(environment("a device"))
    assert "secret" not in text and "somebody-in-particular" not in text


def test_a_clean_checkout_is_named_by_its_commit(checkout: Path) -> None:
    """Git's own answer, nothing added; a change outside src changes nothing that runs."""
    commit = git(checkout, "rev-parse", "HEAD")
    assert source_revision() == commit
    assert len(commit) == 40
    (checkout / "notes.txt").write_text("b\n")
    assert source_revision() == commit


def test_changed_sources_are_marked(checkout: Path) -> None:
    """An edited file, and a new one, make another program than the commit."""
    commit = git(checkout, "rev-parse", "HEAD")
    path = checkout / "src" / "gpuday" / "core" / "environment.py"
    path.write_text("x = 2\n")
    assert source_revision() == f"{commit}+changes"
    path.write_text("x = 1\n")
    (checkout / "src" / "gpuday" / "new.py").write_text("")
    assert source_revision() == f"{commit}+changes"


def test_an_installed_package_is_named_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no repository around it."""
    monkeypatch.setattr(module, "__file__", str(tmp_path / "a" / "b" / "c" / "environment.py"))
    assert source_revision() == f"gpuday {__version__}"


def test_a_machine_without_git_names_the_version(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No git on PATH."""
    monkeypatch.setenv("PATH", str(checkout / "nothing"))
    assert source_revision() == f"gpuday {__version__}"


def test_a_checkout_without_a_commit_names_the_version(checkout: Path) -> None:
    """`git init` alone has no revision."""
    for path in sorted((checkout / ".git" / "refs" / "heads").iterdir()):
        path.unlink()
    assert source_revision() == f"gpuday {__version__}"


def test_a_git_that_hangs_does_not_hold_up_a_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead network disk under .git: after the time-out the version is named."""

    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("git", 10)

    monkeypatch.setattr(subprocess, "run", hang)
    assert source_revision() == f"gpuday {__version__}"
