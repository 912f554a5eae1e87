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
from gpuday.core.environment import LIBRARIES, REDACTED, environment, redact, source_revision, without_home


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


KEY = "hf_" + "abcdefghijklmnopqrstuv"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["run", "--token", KEY], ["run", "--token", REDACTED]),
        (["--token", "anything at all", "x"], ["--token", REDACTED, "x"]),
        ([f"--token={KEY}"], [f"--token={REDACTED}"]),
        (["--hub-api-key=a.b"], [f"--hub-api-key={REDACTED}"]),
        (["--wandb_password", "x"], ["--wandb_password", REDACTED]),
        (["HF_TOKEN=x;b"], [f"HF_TOKEN={REDACTED};b"]),
        ([KEY], [REDACTED]),
        (["sk-" + "a" * 20, "ghp_" + "b" * 20, "AKIA" + "C" * 16], [REDACTED] * 3),
        (["hf_" + "aB3" * 12, "npm_" + "aB3" * 12], [REDACTED] * 2),
        (["sk-proj-" + "a1-B_2" * 4 + "c3D" * 9, "sk-ant-api03-" + "aB3" * 9 + "-x_y"], [REDACTED] * 2),
        (["glpat-" + "aB-3_" * 4, "AIza" + "aB-3_" * 7], [REDACTED] * 2),
        (["eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl"], [REDACTED]),
        (["https://me:word@host/x?token=abc&y=1"], [f"https://{REDACTED}@host/x?token={REDACTED}&y=1"]),
        (["Authorization: Bearer abcdef"], [f"Authorization: {REDACTED}"]),
    ],
)
def test_what_looks_like_a_key_is_not_recorded(words: list[str], shown: list[str]) -> None:
    """By its first letters, by the name that it is given to, by the flag before it, and in an address."""
    assert redact(words) == shown


@pytest.mark.parametrize(
    "word",
    [
        "data.tokenizer=bpe",
        "--tokenizer=my.json",
        "batch.least_tokens=4096",
        "2e9tok",
        "hub:a/b:en",
        "task-of-a-risk-taker",
        "hf_x",
        "sk-wikipedia-2024.txt",
        "hf_fineweb_sample.jsonl",
        "data.tokenizer=hf_tokenizer_file.json",
        "npm_packages_all.txt",
        "ASIA-news-2024.jsonl",
        "pypi-descriptions-of-packages.parquet",
    ],
)
def test_what_only_looks_like_a_key_is_recorded(word: str) -> None:
    """Recipes have tokenizers and tokens; a command that was changed repeats nothing."""
    assert redact(["run", word, "x"]) == ["run", word, "x"]


def test_a_file_that_is_there_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is called, alone or as a value: the recorded command would not find it again."""
    monkeypatch.chdir(tmp_path)
    assert redact([KEY, f"data.tokenizer={KEY}"]) == [REDACTED, f"data.tokenizer={REDACTED}"]
    (tmp_path / KEY).touch()
    assert redact([KEY, f"data.tokenizer={KEY}"]) == [KEY, f"data.tokenizer={KEY}"]
    assert redact(["--token", KEY]) == ["--token", REDACTED]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/texts", "~/texts"),
        ("/home/me", "~"),
        ("--out=/home/me/runs", "--out=~/runs"),
        ("a /home/me/x and /home/me", "a ~/x and ~"),
        ("file:///home/me/x", "file://~/x"),
        ("/home/melanie/x", "/home/melanie/x"),
        ("/data/home/me/x", "/data/home/me/x"),
        ("/home/me-too", "/home/me-too"),
    ],
)
def test_the_home_folder_is_a_tilde(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a path begins with it, and nowhere else."""
    monkeypatch.setenv("HOME", "/home/me")
    assert without_home(text) == shown


@pytest.mark.parametrize("home", ["/", "", "nowhere"])
def test_a_user_without_a_home_has_none_to_hide(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers: paths stay what they are."""
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os.path, "expanduser", lambda _: home)
    assert without_home("/data/x") == "/data/x"


def test_the_command_is_recorded_without_keys_and_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """In environment.json, which the report shows."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(sys, "argv", ["gpuday", "run", "--corpus", "/home/me/a", f"--set=x.token={KEY}"])
    assert environment("")["command"] == ["gpuday", "run", "--corpus", "~/a", f"--set=x.token={REDACTED}"]


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
