"""Replaying: where it would compute something else, or has no whole journal, it says so before it begins."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gpuday.core.errors import DataError, EnvironmentFault
from gpuday.core.journal import Step, read
from gpuday.core.rundir import RunDir, write_json
from gpuday.data.prepare import PreparedData
from gpuday.recipe import Recipe
from gpuday.train import checkpoint
from gpuday.train.device import describe
from gpuday.train.fit import Fit
from gpuday.train.noise import Estimate
from gpuday.train.progress import Progress
from gpuday.train.replay import Replayed, replay

CPU = torch.device("cpu")
TrainRun = Callable[..., Any]


@pytest.fixture
def again(tiny: Recipe, data: PreparedData, pinned: Fit, run: RunDir) -> Callable[..., Replayed]:
    """Replay the tiny run, with a fit of this machine, or changed."""

    def go(*, tell: Callable[..., None] = lambda event, /, **values: None, **changes: Any) -> Replayed:
        here = dataclasses.replace(pinned, device=describe(CPU))
        return replay(tiny, data, run, dataclasses.replace(here, **changes), device=CPU, tell=tell)

    return go


def rewrite(run: RunDir, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Each line of the journal as `change` makes it; None leaves it out."""
    lines = [change(json.loads(line)) for line in run.journal.read_text().splitlines()]
    run.journal.write_text("".join(json.dumps(line) + "\n" for line in lines if line is not None))


def test_every_step_is_made_again_and_shown(finished: RunDir, again: Callable[..., Replayed], run: RunDir) -> None:
    """Six steps at the fractions of the run; its folder is left as it was."""
    before = {p: p.read_bytes() for p in sorted(run.root.rglob("*")) if p.is_file()}
    shown: list[tuple[int, float]] = []
    found = again(
        tell=lambda event, /, **values: shown.append((values["step"], values["fraction"])) if event == "step" else None
    )
    assert found.equal and (found.steps, found.left_out) == (6, 0)
    assert shown == [(i + 1, i / 6) for i in range(6)]
    assert {p: p.read_bytes() for p in sorted(run.root.rglob("*")) if p.is_file()} == before


def test_a_tensor_that_differs_in_one_bit_is_found(
    finished: RunDir, again: Callable[..., Replayed], run: RunDir
) -> None:
    """In the weights and in the optimizer's state, by name; losses that are the same are not said to part."""
    for part in ("model", "optimizer"):
        saved = checkpoint.load_newest(run.checkpoints, warn=pytest.fail)
        assert saved is not None
        name = list(getattr(saved, part))[1]
        first_element = getattr(saved, part)[name].view(-1).view(torch.int32)[:1]
        for differing in (name, ""):
            first_element ^= 1
            checkpoint.save(run.checkpoints, 6, model=saved.model, optimizer=saved.optimizer, state=saved.state)
            found = again()
            assert (found.parted_at, found.differing, found.equal) == (0, differing, not differing)


def test_the_step_at_which_losses_part_is_named(finished: RunDir, again: Callable[..., Replayed], run: RunDir) -> None:
    """The first of them, though weights that come out the same are told to be the same."""
    rewrite(run, lambda row: {**row, "loss": row["loss"] + 1e-12} if row.get("first_row") in (16, 32) else row)
    found = again()
    assert not found.equal
    assert (found.parted_at, found.differing) == (3, "")


def test_another_device_and_fewer_cores_are_refused(finished: RunDir, again: Callable[..., Replayed]) -> None:
    """With what the run had and what is here."""
    with pytest.raises(EnvironmentFault, match="trained on another card; this is") as caught:
        again(device="another card")
    assert "where it was trained" in caught.value.fix
    with pytest.raises(EnvironmentFault, match="with 4096 threads; this process may use"):
        again(threads=4096)


def test_another_torch_is_refused(finished: RunDir, again: Callable[..., Replayed], run: RunDir) -> None:
    """Its kernels may round otherwise."""
    write_json(run.environment, {"attempts": [{"libraries": {"torch": "0.1"}}]})
    with pytest.raises(EnvironmentFault, match=r"trained with torch 0\.1; this is"):
        again()


def test_a_run_on_several_devices_is_refused(finished: RunDir, again: Callable[..., Replayed], run: RunDir) -> None:
    """They add in an order of their own."""
    rewrite(run, lambda row: {**row, "ranks": 2} if row["kind"] == "start" else row)
    with pytest.raises(EnvironmentFault, match="trained on 2 devices"):
        again()


def test_a_run_that_is_not_finished_is_refused(train_run: TrainRun, again: Callable[..., Replayed]) -> None:
    """There is nothing to compare with."""

    class Killed(BaseException):
        pass

    def die(event: str, /, **values: Any) -> None:
        if event == "step" and values["step"] == 3:
            raise Killed

    with pytest.raises(Killed):
        train_run(tell=die)
    with pytest.raises(DataError, match="no final weights"):
        again()


@pytest.mark.parametrize("missing", [1, 4, 6])
def test_a_journal_without_a_step_is_refused(
    finished: RunDir, again: Callable[..., Replayed], run: RunDir, missing: int
) -> None:
    """A power cut may take rows that a checkpoint already has; nothing is guessed in their place."""
    rewrite(run, lambda row: None if row["kind"] == "step" and row["step"] == missing else row)
    with pytest.raises(DataError, match=f"step {missing} is missing or out of place"):
        again()


def test_a_journal_whose_rows_leave_out_some_of_the_stream_is_refused(
    finished: RunDir, again: Callable[..., Replayed], run: RunDir
) -> None:
    """Rows are passed over where a run went back and on, and this one never did."""
    rewrite(run, lambda row: {**row, "rows": 4} if row["kind"] == "step" and row["step"] == 3 else row)
    with pytest.raises(DataError, match="is missing or out of place"):
        again()


def test_a_journal_that_does_not_say_the_micro_batch_is_refused(
    finished: RunDir, again: Callable[..., Replayed], run: RunDir
) -> None:
    """It decides in which order gradients are added."""
    rewrite(run, lambda row: {key: value for key, value in row.items() if key != "microbatch" or row["kind"] != "step"})
    with pytest.raises(DataError, match="with how many rows at a time step 1 was made"):
        again()


def test_a_run_whose_batch_followed_the_noise_is_replayed_by_its_recorded_rows(
    train_run: TrainRun,
    make_recipe: Callable[..., Recipe],
    data: PreparedData,
    pinned: Fit,
    run: RunDir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit, also where what is known of the noise is not what the run knew, as behind a rollback."""
    recipe = make_recipe(
        "10steps",
        batch__noise=1.5,
        batch__noise_every=2,
        batch__least_tokens=64,
        batch__rows=16,
        average={"part": "ema"},
    )
    train_run(recipe, fit={"rows": 16})
    fit = dataclasses.replace(pinned, device=describe(CPU), rows=16)
    for known in (None, Estimate(1.0, 3.0)):
        if known is not None:
            monkeypatch.setattr(Progress, "noise", known)
        found = replay(recipe, data, run, fit, device=CPU, tell=lambda event, /, **values: None)
        assert found.equal and found.steps == 10
    assert len({row.rows for _, row in read(run.journal) if isinstance(row, Step)}) > 2
