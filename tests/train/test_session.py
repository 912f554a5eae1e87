"""A session: what it starts from, what its checkpoints hold, and what it keeps of the budget for the end."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gpuday.core.errors import FitError, Interrupted
from gpuday.core.journal import Journal, Note, Start, Step, Validation, read
from gpuday.core.rundir import RunDir
from gpuday.data.prepare import PreparedData
from gpuday.models.heads import MaskedLM
from gpuday.objectives import Learner
from gpuday.objectives.mlm import MaskedLearner
from gpuday.optim.adamw import Adamw
from gpuday.recipe import Recipe
from gpuday.train import checkpoint
from trained_run import newest

TrainRun = Callable[..., Any]
MakeRecipe = Callable[..., Recipe]


class Killed(BaseException):
    """Stands for kill -9, as far as one process can play it."""


def die_at(wanted: str) -> Callable[..., None]:
    def tell(event: str, /, **values: Any) -> None:
        if event == wanted:
            raise Killed

    return tell


def test_a_first_checkpoint_stands_before_the_first_step(train_run: TrainRun, run: RunDir, learner: Learner) -> None:
    """A kill during the first compile loses nothing but time: initial weights and the loss before are saved."""
    with pytest.raises(Killed):
        train_run(tell=die_at("step"))
    saved = newest(run)
    assert saved.state["progress"]["step"] == 0
    assert saved.state["progress"]["before"]["nats_per_token"] > 0
    for name, parameter in learner.named_parameters():
        assert torch.equal(saved.model[name], parameter.detach())


def test_the_loss_before_is_not_asked_for_again(train_run: TrainRun, run: RunDir) -> None:
    """It belongs to the untrained weights; a resume takes it from the checkpoint."""
    with pytest.raises(Killed):
        train_run(tell=die_at("step"))
    before = newest(run).state["progress"]["before"]
    progress, _ = train_run()
    assert progress.before == before
    assert [v.step for _, v in read(run.journal) if isinstance(v, Validation)].count(0) == 1


def test_the_first_checkpoint_knows_what_the_end_will_need(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir
) -> None:
    """A run resumed from it keeps time back for the final look and save, as the run that was killed did."""
    with pytest.raises(Killed):
        train_run(make_recipe("60s"), tell=die_at("step"))
    assert newest(run).state["clock"]["reserve_seconds"] > 0


def test_looks_take_an_eighth_of_the_rows_and_the_last_takes_all(train_run: TrainRun, run: RunDir) -> None:
    """Before, in between at the share of the budget that the recipe says, and at the end; on growing steps."""
    train_run(fit={"heldout_rows": 40})
    looks = [row for _, row in read(run.journal) if isinstance(row, Validation)]
    assert [(v.step, v.rows, v.final) for v in looks] == [(i, 5, False) for i in range(6)] + [(6, 40, True)]


def test_looks_come_at_the_share_of_the_budget_that_the_recipe_says(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir
) -> None:
    """Every 0.4 of ten steps: before, after 4 and 8, and at the end."""
    train_run(make_recipe("10steps", train__validate_every=0.4))
    assert [v.step for _, v in read(run.journal) if isinstance(v, Validation)] == [0, 4, 8, 10]


def test_the_mask_rate_moves_through_its_levels(train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir) -> None:
    """From 40% of 32 tokens to 20% in three levels: 13, 10 and 6 positions a row, journalled with each step."""
    train_run(make_recipe("12steps", objective={"part": "mlm", "rate": 0.4}, train__mask_levels=3))
    masked = [row.masked // row.rows for _, row in read(run.journal) if isinstance(row, Step)]
    assert masked == sorted(masked, reverse=True)
    assert set(masked) == {13, 10, 6}


GROWING = {
    "batch__ramp": {"part": "ramp", "start": 0.25, "until": 0.5},
    "batch__rows": 32,
    "batch__least_tokens": 128,
}


def test_the_batch_grows_along_its_ramp(train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir) -> None:
    """A quarter of 32 rows at first, all from the middle on, in steps of 128 tokens, which are four rows."""
    progress, _ = train_run(make_recipe("8steps", **GROWING), fit={"rows": 32})
    steps = [row for _, row in read(run.journal) if isinstance(row, Step)]
    assert [s.rows for s in steps] == [8, 16, 20, 24, 32, 32, 32, 32]  # of 8, 14, 20, 26 rows by the ramp
    assert progress.position == sum(s.rows for s in steps)


def test_the_optimizer_is_given_the_recipes_seed(
    train_run: TrainRun, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it draws differs between the seeds of a comparison."""
    seeds, build = [], Adamw.build

    def listen(*arguments: Any, seed: int, **options: Any) -> Any:
        seeds.append(seed)
        return build(*arguments, **options, seed=seed)

    monkeypatch.setattr(Adamw, "build", listen)
    with pytest.raises(Killed):
        train_run(make_recipe(seed=7, optimizer={"part": "adamw"}), tell=die_at("step"))
    assert set(seeds) == {7}


def test_an_optimizer_of_another_kind_does_not_take_a_checkpoint(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir
) -> None:
    """Its state is not there: an error, and not a run that goes on from nothing."""

    def stop(event: str, /, **values: Any) -> None:
        if event == "step" and values["step"] == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        train_run(make_recipe(optimizer={"part": "adamw"}), tell=stop)
    with pytest.raises(KeyError):
        train_run()


def test_a_compiled_session_books_the_first_step_of_each_level_as_compiling(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two levels and a causal step before them, three steps that compile; they count in no pace, and their seconds stand on their own row."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("gpuday.objectives.mlm.MaskedLearner.compile", lambda self, **options: asked.append(options))
    _, clock = train_run(make_recipe("6steps", train__mask_levels=2), fit={"compiled": True})
    assert asked == [{"dynamic": False, "fullgraph": True, "mode": "default"}]
    steps = [row for _, row in read(run.journal) if isinstance(row, Step)]
    fresh = [s for s in steps if s.compiled_anew]
    assert len(fresh) == len({s.masked for s in steps}) == 3
    assert clock.ledger()["compile"] == pytest.approx(sum(s.step_seconds for s in fresh), rel=0.05)


def test_dropout_differs_from_step_to_step_and_not_from_run_to_run(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir
) -> None:
    """Its stream is named by seed and step, whatever drew random numbers before."""
    losses = []
    for index in range(2):
        torch.manual_seed(index)
        at = RunDir(run.root.with_name(f"run-{index}"))
        train_run(make_recipe("3steps", model__dropout=0.5, train__dropout=True), at=at)
        losses.append([row.loss for _, row in read(at.journal) if isinstance(row, Step)])
    assert losses[0] == losses[1]
    plain = RunDir(run.root.with_name("plain"))
    train_run(make_recipe("3steps"), at=plain)
    assert losses[0] != [row.loss for _, row in read(plain.journal) if isinstance(row, Step)]


def test_a_held_out_text_smaller_than_the_fit_is_asked_for_whole(
    train_run: TrainRun, data: PreparedData, run: RunDir
) -> None:
    """A pinned fit never asks for rows that are not there."""
    progress, _ = train_run(fit={"heldout_rows": 10_000})
    assert progress.final["rows"] == len(data.heldout)


def losses(run: RunDir) -> list[float]:
    return [row.loss for _, row in read(run.journal) if isinstance(row, Step)]


@pytest.fixture
def memory_for(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """`memory_for(2, from_call=5)`: from the fifth micro-batch on, more than two rows at a time run out of memory."""

    def set_up(most_rows: int, *, from_call: int = 0) -> list[int]:
        tried: list[int] = []
        forward = MaskedLearner.forward

        def limited(self: Learner, inputs: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
            rows = len(inputs["ids"])
            tried.append(rows)
            loss = forward(self, inputs, kind)
            if len(tried) > from_call and rows > most_rows:
                raise torch.OutOfMemoryError("out of memory")
            return loss

        monkeypatch.setattr(MaskedLearner, "forward", limited)
        return tried

    return set_up


def test_a_step_that_runs_out_of_memory_is_made_again_with_half_as_many_rows_at_a_time(
    train_run: TrainRun, run: RunDir, memory_for: Callable[..., list[int]]
) -> None:
    """In the second micro-batch of step 3: the same rows and losses as with enough memory, within rounding of sums."""
    whole = RunDir(run.root.with_name("whole"))
    train_run(at=whole)
    tried = memory_for(2, from_call=5)
    told: list[str] = []
    progress, _ = train_run(tell=lambda event, /, **values: told.append(values["message"]) if event == "note" else None)
    assert tried == [4] * 6 + [2] * 16
    assert progress.microbatch == 2
    steps = [row for _, row in read(run.journal) if isinstance(row, Step)]
    assert [(s.first_row, s.rows) for s in steps] == [(8 * i, 8) for i in range(6)]
    assert losses(run) == pytest.approx(losses(whole), rel=1e-5)
    notes = [row for _, row in read(run.journal) if isinstance(row, Note)]
    assert [(n.step, n.message) for n in notes] == [(2, told[0])]
    assert "out of memory with 4 rows at a time; from here on 2" in told


def test_a_resumed_run_remembers_how_many_rows_fitted(
    train_run: TrainRun, run: RunDir, memory_for: Callable[..., list[int]]
) -> None:
    """It does not run out of memory again to learn it."""
    tried = memory_for(1)

    def stop(event: str, /, **values: Any) -> None:
        if event == "step" and values["step"] == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        train_run(tell=stop)
    assert tried == [4, 2] + [1] * 16
    tried.clear()
    train_run()
    assert tried == [1] * 32
    assert [row.microbatch for _, row in read(run.journal) if isinstance(row, Start)] == [4, 1]


def test_a_row_that_does_not_fit_is_told(
    train_run: TrainRun, run: RunDir, memory_for: Callable[..., list[int]]
) -> None:
    """With the fix, and after every half was tried."""
    tried = memory_for(0)
    with pytest.raises(FitError, match="not even one row") as caught:
        train_run()
    assert tried == [4, 2, 1]
    assert "--size" in caught.value.fix


@pytest.mark.parametrize("fitted", [3, 4, 16, 32])
def test_a_batch_that_grows_does_not_depend_on_how_many_rows_are_fitted(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir, fitted: int
) -> None:
    """On a device that takes more rows at a time, or beside other ranks, each step has the same rows and the same loss."""
    train_run(make_recipe("4steps", **GROWING), fit={"rows": 32, "microbatch": fitted})
    other = RunDir(run.root.with_name("other"))
    train_run(make_recipe("4steps", **GROWING), at=other, fit={"rows": 32, "microbatch": 8})
    assert [row.rows for _, row in read(run.journal) if isinstance(row, Step)] == [8, 20, 32, 32]
    assert losses(run) == pytest.approx(losses(other), rel=1e-5)


def test_a_batch_that_grows_does_not_depend_on_how_many_rows_fit(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir, memory_for: Callable[..., list[int]]
) -> None:
    """Running out of memory leaves the rows of each step those of the plan."""
    memory_for(1)
    train_run(make_recipe("4steps", **GROWING), fit={"rows": 32})
    assert [row.rows for _, row in read(run.journal) if isinstance(row, Step)] == [8, 20, 32, 32]


def look_losses(run: RunDir) -> list[float]:
    return [row.nats_per_token for _, row in read(run.journal) if isinstance(row, Validation)]


def test_a_look_that_runs_out_of_memory_is_taken_with_half_as_many_rows_at_a_time(
    train_run: TrainRun, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answers, steps of unchanged micro-batches, and one note, since the smaller size stays."""
    whole = RunDir(run.root.with_name("whole"))
    train_run(at=whole)
    predict = MaskedLM.predict

    def limited(self: MaskedLM, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        if not self.training and len(hidden) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return predict(self, hidden, positions)

    monkeypatch.setattr(MaskedLM, "predict", limited)
    progress, _ = train_run()
    assert progress.microbatch == 4
    assert look_losses(run) == pytest.approx(look_losses(whole), rel=1e-6)
    assert losses(run) == losses(whole)
    notes = [row.message for _, row in read(run.journal) if isinstance(row, Note)]
    assert notes == ["out of memory in a look with 4 rows at a time; from here on 2"]


def test_a_row_that_does_not_fit_a_look_is_told(train_run: TrainRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fix, after every half was tried."""

    def full(self: MaskedLM, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(MaskedLM, "predict", full)
    with pytest.raises(FitError, match="not even one row") as caught:
        train_run()
    assert "look" in caught.value.where and "--size" in caught.value.fix


def test_a_look_is_not_taken_twice_after_one_step(train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir) -> None:
    """Looks and saves that are due all the time come once a step, and the steps go on."""
    train_run(make_recipe("3steps", train__validate_every=0.0, train__save_every_seconds=0.0))
    kinds = [type(row).__name__ for _, row in read(run.journal)]
    look_and_save = ["Validation", "Checkpoint"]
    between = ["Step", *look_and_save]
    assert kinds == ["Start", *look_and_save, *between, *between, "Step", "Checkpoint", *look_and_save]


def test_isolated_documents_train(train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir) -> None:
    """The run ends, learns otherwise than the one that mixes them, and its journal says which attention it had and why."""
    isolated, _ = train_run(make_recipe(train__isolate=True))
    mixed, _ = train_run(at=RunDir(run.root.with_name("mixed")))
    assert isolated.final and mixed.final
    assert 0 < abs(isolated.final["nats_per_token"] - mixed.final["nats_per_token"]) < 0.5
    start = next(row for _, row in read(run.journal) if isinstance(row, Start))
    assert start.attention.startswith("varlen: for CUDA only; flex: for CUDA only; sdpa: within ")


def test_the_journal_is_durable_before_a_checkpoint_is_written(
    train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time: after a power cut, a checkpoint beside a journal that ends before it would be a hole in the record."""
    order: list[str] = []

    def traced(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            order.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    traced(Journal, "sync")
    traced(checkpoint, "save")
    train_run()
    assert order == ["sync", "save"] * 2
