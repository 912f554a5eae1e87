"""`gpuday run` and the rooms up to training: claimed, prepared once, trained once, resumed by the same command."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.cli import run as cli_run
from gpuday.cli.screen import Screen
from gpuday.core import config
from gpuday.core.errors import DataError
from gpuday.core.rundir import RunDir, read_json, write_json
from gpuday.recipe import Recipe
from gpuday.train.peers import RankGone

Call = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "runs" / "mine")


def prepare(call: Call, *more: str) -> Any:
    return call("prepare", "tiny.toml", "--out", "runs/mine", *more)


def train(call: Call, *more: str) -> Any:
    return call("train", "tiny.toml", "--out", "runs/mine", *more)


def test_preparing_writes_recipe_environment_and_data(call: Call, run: RunDir) -> None:
    """What a run needs before it trains; nothing of the training is there yet."""
    called = prepare(call)
    assert called.code == 0
    assert {"run", "prepared"} <= set(called.kinds())
    assert config.from_dict(Recipe, read_json(run.recipe)).data.vocab == 512
    assert read_json(run.environment)["attempts"][0]["command"][0] == "gpuday"
    assert run.data.is_dir()
    assert not run.journal.exists() and not run.summary.exists()


def test_damaged_tokens_are_found_before_the_clock_starts(
    call: Call, run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flipped bit in the training text is named, and the text made again; where it comes out otherwise the run ends
    with exit code 3, and nothing was spent."""
    monkeypatch.setenv("GPUDAY_CACHE", str(tmp_path / "own"))
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Fox number {i} ate {i * 7} plums on day {i}, again and again." for i in range(600)))

    def damage() -> bytes:
        path = run.data / "train.tok" / "00000.bin"
        tokens = bytearray(path.read_bytes())
        before = bytes(tokens)
        tokens[len(tokens) // 2] ^= 1
        path.write_bytes(bytes(tokens))
        return before

    def train_text() -> Any:
        return call("train", "tiny.toml", "--out", "runs/mine", "--corpus", text.name)

    assert call("prepare", "tiny.toml", "--out", "runs/mine", "--corpus", text.name).code == 0
    before = damage()
    text.write_text(text.read_text().replace("plums", "pears"))
    called = train_text()
    assert called.code == 3
    assert "no longer gives the tokens" in called.err and "00000.bin" in called.err
    assert not run.journal.exists()
    text.write_text(text.read_text().replace("pears", "plums"))
    called = train_text()
    assert called.code == 0
    assert any("made again" in e["message"] for e in called.events if e.get("event") == "notice")
    assert (run.data / "train.tok" / "00000.bin").read_bytes() == before


def test_training_writes_fit_journal_checkpoint_and_summary(call: Call, run: RunDir) -> None:
    """And tells fit, steps and the end."""
    called = train(call)
    assert called.code == 0
    assert {"fit", "start", "validation", "step", "trained"} <= set(called.kinds())
    assert run.fit.exists() and run.journal.exists() and run.heartbeat.exists()
    assert (run.checkpoints / "step-00000003").is_dir()
    assert read_json(run.summary)["train"]["steps"] == 3


def test_a_finished_training_is_not_repeated(call: Call, run: RunDir) -> None:
    """The same command says so, and leaves every file of the training as it was."""
    train(call)
    paths = [p for p in run.root.rglob("*") if p.is_file() and p.name != ".lock" and "/data/" not in str(p)]
    before = {p: p.read_bytes() for p in paths}
    called = train(call)
    assert called.code == 0
    assert called.events[-1] == {"event": "trained", "already": True}
    assert "step" not in called.kinds() and "start" not in called.kinds()
    assert {p: p.read_bytes() for p in paths} == before


def test_an_interrupted_run_ends_with_75_and_the_same_command_finishes_it(
    call: Call, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the second step: a sentence, no traceback; then the rest."""
    tell = Screen.tell

    def interrupt(self: Screen, event: str, /, **values: Any) -> None:
        tell(self, event, **values)
        if event == "step" and values["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Screen, "tell", interrupt)
        called = train(call)
    assert called.code == 75
    assert "stopped at step 2" in called.err and "same command" in called.err
    assert not run.summary.exists()
    called = train(call)
    assert called.code == 0
    assert [e["step"] for e in called.events if e.get("event") == "start"] == [2]
    assert read_json(run.summary)["resumes"] == 1


def test_a_fit_with_a_notice_tells_it(call: Call, run: RunDir) -> None:
    """What a person should know of the choice is an event of its own."""
    train(call)
    write_json(run.fit, {**read_json(run.fit), "notices": ["training runs eager"]})
    run.summary.unlink()
    run.journal.unlink()
    shutil.rmtree(run.checkpoints)  # each has the fit, and it is theirs that counts
    assert [e["message"] for e in train(call).events if e.get("event") == "notice"] == ["training runs eager"]


@pytest.mark.parametrize(
    ("axis", "told"),
    [
        ("model.logit_cap=30.0", ["export, not modernbert: logit_cap is 30.0"]),
        ("objective=rtd", ["export, the encoder alone: another model predicted the masked tokens"]),
        ("model.tied=false", []),
    ],
)
def test_what_the_export_will_refuse_is_told_before_anything_is_spent(
    call: Call, run: RunDir, axis: str, told: Any
) -> None:
    """As soon as the recipe is known, and nothing where the folder will be whole."""
    called = call("train", "tiny.toml", "--out", "runs/other", "--corpus", "missing.txt", "--set", axis)
    assert called.code == 3  # there is no such text
    found = [e["message"] for e in called.events if e.get("event") == "notice"]
    assert len(found) == len(told) and all(f.startswith(t) for f, t in zip(found, told, strict=True))


def test_a_folder_with_another_recipe_is_refused(call: Call, run: RunDir) -> None:
    """Exit code 2 with the difference; the run is untouched."""
    prepare(call)
    before = run.recipe.read_bytes()
    called = prepare(call, "--seed", "4")
    assert called.code == 2
    assert "seed: 0 there, 4 asked" in called.err
    assert run.recipe.read_bytes() == before


def test_a_run_that_another_process_holds_is_refused(call: Call, run: RunDir) -> None:
    """Two trainings in one folder would ruin both."""
    with run.lock():
        called = train(call)
    assert called.code == 2
    assert "in use by process" in called.err


@pytest.mark.parametrize(("told", "raised"), [(True, SystemExit), (False, RankGone)])
def test_that_a_rank_is_gone_is_said_by_one_of_the_others(told: bool, raised: type[BaseException]) -> None:
    """Who need not say it leaves in silence, by the same exit code; the launcher's signal disturbs neither."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(raised) as ended, cli_run._told_once():
            raise RankGone("rank 1 is gone", where="", fix="", told=told)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert getattr(ended.value, "code", RankGone.exit_code) == RankGone.exit_code == 5


@pytest.mark.parametrize(("told", "raised"), [(None, DataError), (False, DataError), (True, SystemExit)])
def test_a_fault_that_ranks_share_is_said_by_one_of_them(told: bool | None, raised: type[BaseException]) -> None:
    """By the same exit code everywhere. A rank alone goes on to hear the signals that it heard."""
    handler, error = signal.getsignal(signal.SIGTERM), DataError("the weights differ")
    error.told = told
    try:
        with pytest.raises(raised) as ended, cli_run._told_once():
            raise error
        assert (signal.getsignal(signal.SIGTERM) == signal.SIG_IGN) == (told is not None)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert getattr(ended.value, "code", 3) == DataError.exit_code == 3


@pytest.mark.parametrize(("corpus", "code"), [("synthetic:many", 2), ("no/such/text.txt", 3)])
def test_a_corpus_that_was_mistyped_leaves_its_folder_free_for_the_right_one(
    call: Call, run: RunDir, corpus: str, code: int
) -> None:
    """Nothing was prepared, so that the corrected command with the same --out is no 'other recipe'."""
    assert prepare(call, "--corpus", corpus).code == code
    assert prepare(call).code == 0
