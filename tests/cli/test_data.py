"""The data of a run: whole in its own folder but for the tokens, which come back the same or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpuday.core.rundir import RunDir, read_json, write_json
from gpuday.core.sealed import unseal_inside
from gpuday.data.prepare import PreparedData
from gpuday.train import checkpoint

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


OWN = ("tokenizer.json", "manifest.json", "drops.json", "train.index.json", "heldout.tok/00000.bin",
       "heldout.tok/index.json", "heldout.words/labels.bin", "heldout.words/index.json")  # fmt: skip


def flip(path: Path) -> bytes:
    """One bit in the middle; returns what was there."""
    before = path.read_bytes()
    data = bytearray(before)
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return before


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def train(call: Call, *more: str) -> Any:
    return call("train", "tiny.toml", "--out", "runs/mine", *more)


@pytest.fixture
def trained_once(call: Call, run: RunDir, cache: Path, text: Path) -> dict[str, bytes]:
    """A run that trained, to be trained on; what its data was, by file."""
    assert train(call, "--corpus", text.name).code == 0
    run.summary.unlink()
    return content(run.data)


def test_a_damaged_file_of_the_runs_own_data_comes_from_the_cache_again(
    call: Call, run: RunDir, text: Path, trained_once: dict[str, bytes]
) -> None:
    """Each of them: told by name, set aside, and the same to the byte, without the text being read again."""
    for name in OWN:
        flip(run.data / name)
        called = train(call, "--corpus", text.name)
        if name == "train.index.json":  # it vouches for the tokens, and is asked when something else is damaged
            assert called.code == 0
            (run.data / name).write_bytes(trained_once[name])
            continue
        assert called.code == 0
        assert content(run.data) == trained_once, name
        told = [e["message"] for e in called.events if e.get("event") == "notice"]
        assert name in told[0] and "stage" not in called.kinds()
        assert (run.root / f"data.bad-{Path(name).name}").is_dir()
        shutil.rmtree(run.root / f"data.bad-{Path(name).name}")
        run.summary.unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["00000.bin", "00000.docs.bin", "index.json"])
def test_damaged_tokens_in_the_cache_are_set_aside_and_made_again(
    call: Call, run: RunDir, cache: Path, text: Path, trained_once: dict[str, bytes], name: str
) -> None:
    """The same to the byte, for this run and for those that share them."""
    stored = (run.data / "train.tok").resolve()
    before = flip(stored / name)
    assert train(call, "--corpus", text.name).code == 0
    assert (stored / name).read_bytes() == before
    assert [p.name for p in stored.parent.parent.glob("*.bad-*")] == [f"{stored.parent.name}.bad-{name}"]
    assert {n: d for n, d in content(run.data).items() if n != "manifest.json"} == {
        n: d for n, d in trained_once.items() if n != "manifest.json"
    }


def test_a_new_run_of_damaged_prepared_data_gets_whole_data(call: Call, run: RunDir, cache: Path, text: Path) -> None:
    """Damage that only reading every byte shows does not end the first training of a text either."""
    assert prepare(call, "--corpus", text.name).code == 0
    before = flip((run.data / "train.tok").resolve() / "00000.bin")
    called = call("train", "tiny.toml", "--out", "runs/other", "--corpus", text.name)
    assert called.code == 0
    assert (RunDir(run.root.with_name("other")).data / "train.tok" / "00000.bin").read_bytes() == before


def test_a_run_of_which_nothing_says_what_its_tokens_were_is_refused(
    call: Call, run: RunDir, text: Path, trained_once: dict[str, bytes]
) -> None:
    """Manifest and index damaged at once, and checkpoints of an earlier version: exit code 3, and nothing of the run is
    touched."""
    forget_data(run)
    flip(run.data / "manifest.json")
    flip(run.data / "train.index.json")
    before = content(run.data)
    called = train(call, "--corpus", text.name)
    assert called.code == 3
    assert "nothing whole says" in called.err and "checkpoints are intact" in called.err
    assert content(run.data) == before


def test_what_the_data_was_stands_in_the_checkpoints_too(
    call: Call, run: RunDir, text: Path, trained_once: dict[str, bytes]
) -> None:
    """Manifest and index damaged at once: the data comes back the same all the same."""
    flip(run.data / "manifest.json")
    flip(run.data / "train.index.json")
    assert train(call, "--corpus", text.name).code == 0
    assert content(run.data) == trained_once


def forget_data(run: RunDir) -> None:
    """Let the checkpoints be of a version that did not note what the data was."""
    for step in checkpoint.steps(run.checkpoints):
        saved = checkpoint.load(run.checkpoints, step)
        state = {key: value for key, value in saved.state.items() if key != "data"}
        checkpoint.save(run.checkpoints, step, model=saved.model, optimizer=saved.optimizer, state=state)


def without_manifest(files: dict[str, bytes]) -> dict[str, bytes]:
    """The manifest says how long it took."""
    return {name: data for name, data in files.items() if name != "manifest.json"}


def test_a_run_that_was_copied_whole_never_goes_on_with_other_data(
    call: Call, run: RunDir, cache: Path, text: Path, trained_once: dict[str, bytes]
) -> None:
    """Its tokens are in its own folder. With a bad bit and another corpus each command is refused, and the data stays; with
    the corpus of its beginning it comes out the same."""
    moved = RunDir(run.root.with_name("moved"))
    shutil.copytree(run.root, moved.root)
    shutil.rmtree(cache)
    flip(moved.data / "train.tok" / "00000.bin")
    before, whole = content(moved.data), text.read_text()
    text.write_text(whole.replace("plums", "pears"))
    for _ in range(2):
        called = call("train", "tiny.toml", "--out", "runs/moved", "--corpus", text.name)
        assert called.code == 3 and "no longer gives" in called.err
        assert content(moved.data) == before
    text.write_text(whole)
    assert call("train", "tiny.toml", "--out", "runs/moved", "--corpus", text.name).code == 0
    assert without_manifest(content(moved.data)) == without_manifest(trained_once)


def test_a_run_that_lost_its_data_goes_on_with_no_other(
    call: Call, run: RunDir, cache: Path, text: Path, trained_once: dict[str, bytes]
) -> None:
    """The checkpoints say what it was; where they are of an earlier version, nobody knows."""
    shutil.rmtree(run.data)
    shutil.rmtree(cache)
    whole = text.read_text()
    text.write_text(whole.replace("plums", "pears"))
    called = train(call, "--corpus", text.name)
    assert called.code == 3 and "no longer gives" in called.err and "checkpoints are intact" in called.err
    assert not run.data.exists()
    text.write_text(whole)
    assert train(call, "--corpus", text.name).code == 0
    assert without_manifest(content(run.data)) == without_manifest(trained_once)
    shutil.rmtree(run.data)
    run.summary.unlink()
    forget_data(run)
    called = train(call, "--corpus", text.name)
    assert called.code == 3 and "of an earlier version" in called.err and not run.data.exists()


def test_a_run_goes_on_from_checkpoints_that_do_not_note_their_data(
    call: Call, run: RunDir, text: Path, trained_once: dict[str, bytes]
) -> None:
    """Those of an earlier version."""
    forget_data(run)
    assert train(call, "--corpus", text.name).code == 0


def test_data_that_is_not_what_the_checkpoints_were_trained_on_is_refused(
    call: Call, run: RunDir, text: Path, trained_once: dict[str, bytes]
) -> None:
    """Whole data of another corpus in the run's folder: exit code 3, before a step is made."""
    other = text.with_name("other.txt")
    other.write_text(text.read_text().replace("plums", "pears"))
    assert call("prepare", "tiny.toml", "--out", "runs/other", "--corpus", other.name).code == 0
    shutil.rmtree(run.data)
    shutil.copytree(run.root.with_name("other") / "data", run.data, symlinks=True)
    for path in sorted(run.checkpoints.glob("step-*"))[1:]:  # the newest is of a run that has ended
        shutil.rmtree(path)
    called = train(call, "--corpus", text.name)
    assert called.code == 3 and "not what the checkpoints were trained on" in called.err


@pytest.mark.parametrize("cleared", [False, True])
def test_data_of_an_older_version_is_named_and_stays(
    call: Call, run: RunDir, cache: Path, text: Path, trained_once: dict[str, bytes], cleared: bool
) -> None:
    """Its manifest had no checksum. Exit code 3 with what to do; neither the run's nor the cache's is set aside, and a cache
    that was cleared does not have the corpus read."""
    stored = (run.data / "train.tok").resolve().parent
    for folder in (run.data, stored):
        manifest = unseal_inside((folder / "manifest.json").read_bytes())
        write_json(folder / "manifest.json", {**{k: v for k, v in manifest.items() if k != "files"}, "format": 2})
    if cleared:
        shutil.rmtree(cache)
    called = train(call, "--corpus", text.name)
    assert called.code == 3
    assert "older version of gpuday" in called.err and "environment.json" in called.err
    assert run.data.exists() and stored.exists() == (not cleared)
    assert "stage" not in called.kinds()


def test_a_kill_while_damaged_data_is_exchanged_loses_none(
    call: Call, run: RunDir, text: Path, trained_once: dict[str, bytes]
) -> None:
    """Between the two renames the run has no data, but whole data that waits for its place."""
    os.rename(run.data, run.root / ".data.again")
    assert train(call, "--corpus", text.name).code == 0
    assert content(run.data) == trained_once
    shutil.copytree(run.data, run.root / ".data.again", symlinks=True)
    assert prepare(call, "--corpus", text.name).code == 0
    assert content(run.data) == trained_once and not (run.root / ".data.again").exists()


def test_a_damaged_recipe_fit_and_summary_do_not_end_a_run(
    call: Call, run: RunDir, text: Path, trained_once: dict[str, bytes]
) -> None:
    """The same command writes them again, and goes on from the last checkpoint."""
    assert train(call, "--corpus", text.name).code == 0
    whole = {p.name: p.read_bytes() for p in (run.recipe, run.fit)}
    for path in (run.recipe, run.fit, run.summary, run.environment):
        path.write_bytes(path.read_bytes()[:-3])
    called = train(call, "--corpus", text.name)
    assert called.code == 0
    assert {p.name: p.read_bytes() for p in (run.recipe, run.fit)} == whole
    assert read_json(run.summary)["train"]["steps"] == 3
    assert len([e for e in called.events if "is damaged, set aside" in e.get("message", "")]) == 4


def test_a_run_that_has_no_room_is_refused_before_the_clock_starts(
    call: Call, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 4 with both numbers and the folder; no step was made."""
    assert prepare(call).code == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=12345))
    called = train(call)
    assert called.code == 4
    assert "12,345 bytes are free" in called.err and "runs/mine" in called.err
    assert not run.journal.exists()
