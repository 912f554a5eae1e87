"""The data of a run: whole in its own folder but for the tokens, which come back the same or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.core.rundir import RunDir
from gpuday.data.prepare import PreparedData

Call = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "runs" / "mine")


@pytest.fixture
def cache(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, to be cleared."""
    monkeypatch.setenv("GPUDAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A corpus in a file."""
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"Fox number {i} ate {i * 7} plums on day {i}, again and again." for i in range(600)))
    return path


def prepare(call: Call, *more: str) -> Any:
    return call("prepare", "tiny.toml", "--out", "runs/mine", *more)


def test_a_run_owns_all_but_its_tokens(call: Call, run: RunDir) -> None:
    """Files, and a link given in full, so that the folder of the command does not matter."""
    assert prepare(call).code == 0
    assert not run.data.is_symlink()
    names = {p.name for p in run.data.iterdir() if not p.is_symlink()}
    assert names == {
        *("tokenizer.json", "manifest.json", "drops.json", "heldout.tok", "heldout.words", "train.index.json")
    }
    assert (run.data / "train.tok").is_symlink() and os.path.isabs(os.readlink(run.data / "train.tok"))
    data = PreparedData.open(run.data)
    data.train.verify()
    data.heldout.verify()


def test_nothing_half_copied_is_left(call: Call, run: RunDir) -> None:
    """The folder appears whole."""
    prepare(call)
    assert [p.name for p in run.root.iterdir() if p.name.endswith(".tmp")] == []


def test_runs_share_their_prepared_tokens(call: Call, run: RunDir) -> None:
    """Another run of the same text reads them from the cache."""
    prepare(call)
    called = call("prepare", "tiny.toml", "--out", "runs/other", "--seed", "5")
    assert [e["reused"] for e in called.events if e.get("event") == "prepared"] == [True]
    other = RunDir(run.root.with_name("other"))
    assert (other.data / "train.tok").resolve() == (run.data / "train.tok").resolve()


def test_a_run_keeps_its_data_whatever_became_of_the_corpus(call: Call, text: Path) -> None:
    """The text may be gone when a run is resumed; it is not read again."""
    assert prepare(call, "--corpus", text.name).code == 0
    text.unlink()
    called = prepare(call, "--corpus", text.name)
    assert called.code == 0
    assert "stage" not in called.kinds()


def test_tokens_that_went_with_the_cache_are_made_again(call: Call, run: RunDir, cache: Path, text: Path) -> None:
    """By the run's own tokenizer, the same to the byte, and told."""
    prepare(call, "--corpus", text.name)
    tokens = (run.data / "train.tok" / "00000.bin").read_bytes()
    own = (run.data / "tokenizer.json").read_bytes()
    shutil.rmtree(cache)
    called = prepare(call, "--corpus", text.name)
    assert called.code == 0
    assert any("made again" in e["message"] for e in called.events if e.get("event") == "notice")
    assert (run.data / "train.tok" / "00000.bin").read_bytes() == tokens
    assert (run.data / "tokenizer.json").read_bytes() == own


@pytest.mark.parametrize("change", ["more", "other", "gone"])
def test_a_corpus_that_changed_meanwhile_is_refused(
    call: Call, run: RunDir, cache: Path, text: Path, change: str
) -> None:
    """A run never goes on with other tokens than it began with: exit code 3, and the held-out text stays."""
    prepare(call, "--corpus", text.name)
    heldout = (run.data / "heldout.tok" / "index.json").read_bytes()
    shutil.rmtree(cache)
    if change == "gone":
        text.unlink()
    else:
        text.write_text(text.read_text().replace("plums", "pears") + ("\n\nOne more." if change == "more" else ""))
    called = prepare(call, "--corpus", text.name)
    assert called.code == 3
    assert "error: " in called.err and "fix: " in called.err
    assert (run.data / "heldout.tok" / "index.json").read_bytes() == heldout


def test_a_finished_run_is_evaluated_and_exported_without_the_cache(call: Call, run: RunDir, cache: Path) -> None:
    """The folder is all that is needed, on this machine or on another."""
    assert call("train", "tiny.toml", "--out", "runs/mine").code == 0
    shutil.rmtree(cache)
    moved = run.root.with_name("moved")
    os.rename(run.root, moved)
    assert call("evaluate", "runs/moved", "--tasks", "none").code == 0
    assert call("export", "runs/moved").code == 0
    assert call("report", "runs/moved").code == 0
