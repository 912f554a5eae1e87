"""The catalogue of mistakes: each ends with its exit code and a few lines that help, and leaves nothing behind."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gpuday.core import parts

LINES = 12


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_toml: Callable[..., str], slips: ModuleType) -> Path:
    """A folder with a recipe, a text, a finished run and one that was only prepared."""
    place = tmp_path_factory.mktemp("mistakes")
    recipe = tiny_toml(budget="3steps", batch='ramp = "constant"').replace("synthetic:20000", "text.txt")
    (place / "tiny.toml").write_text(recipe)
    pieces = (f"Fox number {i} ate {i * 7} plums on day {i}, again and again." for i in range(600))
    (place / "text.txt").write_text("\n\n".join(pieces))
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("GPUDAY_CACHE", str(place.with_name("mistakes-cache")))
        assert slips.ask(["train", "tiny.toml", "--out", "runs/done"]) == (0, "")
        assert slips.ask(["prepare", "tiny.toml", "--out", "runs/begun"]) == (0, "")
    signal.signal(signal.SIGTERM, handler)
    return place


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of that folder, in which this test's commands are given."""
    folder = tmp_path / "here"
    shutil.copytree(template, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GPUDAY_CACHE", str(template.with_name("mistakes-cache")))
    monkeypatch.setattr(parts, "_user_files", {})
    handler = signal.getsignal(signal.SIGTERM)
    yield folder
    signal.signal(signal.SIGTERM, handler)


def everything(folder: Path) -> set[str]:
    """All paths below a folder but what Python caches."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if "__pycache__" not in p.parts}


def test_the_catalogue_is_large_and_its_names_are_its_own(mistakes: ModuleType) -> None:
    """At least 80 cases, with a fix that is tried for at least 30 of them."""
    names = [case.name for case in mistakes.CATALOGUE]
    assert len(names) == len(set(names)) >= 80
    assert len([case for case in mistakes.CATALOGUE if case.mended]) >= 30


def test_every_mistake_is_answered(place: Path, mistakes: ModuleType, slips: ModuleType, mistake: Any) -> None:
    """The exit code, what happened, where and how to mend it, in a few lines; the disk is as it was; the fix works."""
    mistake.disk(place)
    before = everything(place)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in mistake.environment.items():
            patch.setenv(name, value)
        code, err = slips.ask(list(mistake.command))
    assert code == mistake.code, err
    assert [part for part in mistake.said if part not in err] == [], err
    assert err.startswith("error: ") and "Traceback" not in err and "  fix:   " in err, err
    assert err.count("\n") <= LINES
    assert everything(place) == before
    if mistake.mended:
        assert slips.ask(list(mistake.mended)) == (0, "")


def test_a_recipe_with_the_line_ends_and_the_mark_of_windows_is_read(place: Path, slips: ModuleType) -> None:
    """What an editor of another system writes is no mistake."""
    (place / "mine.toml").write_bytes(b'\xef\xbb\xbfbase = "modern"\r\nsize = "nano"\r\n[train]\r\nclip = 1.0\r\n')
    assert slips.ask(["show", "mine.toml"]) == (0, "")


def test_the_same_recipe_by_other_flags_is_the_same_run(place: Path, slips: ModuleType) -> None:
    """What is compared is the recipe, not how it was written."""
    command = ["train", "tiny.toml", "--out", "runs/done", "--set", "seed=0", "--vocab", "512", "--budget", "3.0step"]
    assert slips.ask([*command, "--set", "optimizer.lr=0.02", "--set", 'data.corpus=["text.txt"]']) == (0, "")


def test_a_run_that_moved_works_as_before(place: Path, slips: ModuleType) -> None:
    """Evaluated, reported, shown and gone on with under its new name, and as a copy."""
    shutil.copytree(place / "runs" / "done", place / "copied", symlinks=True)
    os.rename(place / "runs" / "done", place / "moved")
    for run in ("moved", "copied"):
        for command in (["evaluate", run, "--tasks", "none"], ["report", run], ["show", run]):
            assert slips.ask(command) == (0, "")
        assert slips.ask(["train", "tiny.toml", "--out", run]) == (0, "")


@pytest.mark.parametrize("change", ["deleted", "edited"])
def test_a_run_goes_on_without_its_corpus(place: Path, slips: ModuleType, change: str) -> None:
    """What was prepared is the run's own; the text is not read again."""
    (place / "text.txt").unlink()
    if change == "edited":
        (place / "text.txt").write_text("something else\n")
    assert slips.ask(["train", "tiny.toml", "--out", "runs/begun"]) == (0, "")


@pytest.mark.parametrize("threads", ["abc", "-3", ""])
def test_a_number_of_threads_that_is_none_is_passed_over(
    place: Path, slips: ModuleType, monkeypatch: pytest.MonkeyPatch, threads: str
) -> None:
    """The fit measures instead; it is another program's variable."""
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert slips.ask(["train", "tiny.toml", "--out", "runs/begun"]) == (0, "")


def test_a_run_that_fails_before_it_wrote_anything_leaves_its_folder_if_that_was_there(
    place: Path, slips: ModuleType
) -> None:
    """Only what the command made itself is removed."""
    (place / "runs" / "mine").mkdir()
    assert slips.ask(["prepare", "tiny.toml", "--out", "runs/mine", "--corpus", "no.txt"])[0] == 3
    assert (place / "runs" / "mine").is_dir()
    assert slips.ask(["prepare", "tiny.toml", "--out", "new/mine", "--corpus", "no.txt"])[0] == 3
    assert not (place / "new").exists()


@pytest.mark.parametrize("name", ["owner/name", "owner/name:config:split"])
def test_a_hub_corpus_without_its_library_says_what_to_install(
    place: Path, slips: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Exit code 5, whether or not the library is here; and no folder."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    code, err = slips.ask(["prepare", "tiny.toml", "--out", "runs/x", "--corpus", f"hub:{name}"])
    assert code == 5
    assert "pip install 'gpuday[hub]'" in err
    assert not (place / "runs" / "x").exists()


def test_a_hub_that_cannot_be_reached_is_named(place: Path, slips: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3, with the name that was asked for."""
    datasets = ModuleType("datasets")

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to the hub")

    datasets.load_dataset = unreachable  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    code, err = slips.ask(["prepare", "tiny.toml", "--out", "runs/x", "--corpus", "hub:owner/name"])
    assert code == 3
    assert "cannot load owner/name" in err and "network" in err


def test_a_preparation_that_was_stopped_leaves_nothing_and_goes_on_later(
    place: Path, slips: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 75; then the same command again."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    command = ["prepare", "tiny.toml", "--out", "runs/x", "--seed", "5"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpuday.cli.data.prepare", stop)
        code, err = slips.ask(command)
    assert code == 75
    assert "the same command again" in err
    assert not (place / "runs" / "x").exists()
    assert slips.ask(command) == (0, "")
