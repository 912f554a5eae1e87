"""Steps as a run makes them: scheduled, counted, and told in their rows."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuday.core.journal import Step
from gpuday.core.rundir import RunDir
from gpuday.objectives import Learner
from gpuday.objectives.mlm import MaskedLearner
from gpuday.optim import muon
from gpuday.recipe import Recipe
from trained_run import rows

TrainRun = Callable[..., Any]


def test_a_row_says_what_its_step_was(train_run: TrainRun, make_recipe: Callable[..., Recipe], run: RunDir) -> None:
    """Kind, length, and shares of decay and dropout as the schedules have them; positions are counted in pieces: 8 rows
    of two, with all but one or 40% of 16 tokens in each, then of one, with 40% of 32."""
    recipe = make_recipe(
        "4steps",
        mask_rate={"part": "constant"},
        length={"part": "stages", "stages": [[0.5, 0.5], [1.0, 1.0]]},
        decay={"part": "ramp", "start": 1.0, "end": 0.0},
        model__dropout=0.1,
        train__dropout=True,
        dropout={"part": "stages", "stages": [[0.3, 0.0], [0.6, 0.5], [1.0, 1.0]]},
    )
    train_run(recipe)
    told = [(s.question, s.length, s.decay, s.dropout, s.masked) for s in rows(run, Step)]
    assert told == [
        ("causal", 16, 1.0, 0.0, 8 * 2 * 15),
        ("masked", 16, 0.75, 0.0, 8 * 2 * 6),
        ("masked", 32, 0.5, 0.5, 8 * 13),
        ("masked", 32, 0.25, 1.0, 8 * 13),
    ]


def test_the_decay_of_the_schedule_reaches_the_optimizer(
    train_run: TrainRun, make_recipe: Callable[..., Recipe], run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every step, beside the rate."""
    heard: list[tuple[float, float]] = []
    stepper = muon.Muon().build([]).__class__
    real = stepper.step

    def step(self: Any, multiplier: float, closure: Callable[[], None], *, decay: float = 1.0) -> None:
        heard.append((multiplier, decay))
        real(self, multiplier, closure, decay=decay)

    monkeypatch.setattr(stepper, "step", step)
    train_run(make_recipe("4steps", decay={"part": "ramp", "start": 2.0, "end": 0.0}))
    assert heard == [(row.multiplier, row.decay) for row in rows(run, Step)]
    assert [decay for _, decay in heard] == [2.0, 1.5, 1.0, 0.5]


def test_a_budget_in_flops_pays_for_every_gradient(
    train_run: TrainRun, make_recipe: Callable[..., Recipe], run: RunDir
) -> None:
    """What six steps of AdamW cost are three of SAM around it; the journal counts the useful ones, and the clock all."""
    plain, sam = {"part": "adamw"}, {"part": "sam", "inner": {"part": "adamw"}}
    options = {"mask_rate": {"part": "constant"}, "objective": "mlm", "optimizer": plain}
    one, _ = train_run(make_recipe("1steps", **options), at=RunDir(run.root.with_name("one")))
    budget = f"{5.9 * one.flops:.6e}flop"
    steps = {}
    for name, optimizer in (("plain", plain), ("sam", sam)):
        at = RunDir(run.root.with_name(name))
        progress, clock = train_run(make_recipe(budget, **options | {"optimizer": optimizer}), at=at)
        steps[name] = len(rows(at, Step))
        assert clock.counts["flops"] == pytest.approx(6 * one.flops)
        assert progress.flops == pytest.approx(steps[name] * one.flops) == rows(at, Step)[-1].flops
    assert steps == {"plain": 6, "sam": 3}


@pytest.mark.parametrize(("part", "call"), [("sam", 6), ("sophia", 3), ("sophia", 5)])
def test_a_step_whose_other_point_does_not_fit_is_made_again_with_fewer_rows(
    train_run: TrainRun,
    make_recipe: Callable[..., Recipe],
    run: RunDir,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    call: int,
) -> None:
    """In the middle of an update, steps being of two micro-batches: no step is lost or left out, the run goes on with half
    as many rows at a time, and its losses are those of an undisturbed one."""
    recipe = make_recipe("3steps", optimizer={"part": part})
    undisturbed = RunDir(run.root.with_name("undisturbed"))
    train_run(recipe, at=undisturbed)
    real, calls = MaskedLearner.forward, 0

    def forward(self: Learner, inputs: dict[str, Tensor], kind: str) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == call:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, inputs, kind)

    monkeypatch.setattr(MaskedLearner, "forward", forward)
    progress, _ = train_run(recipe)
    assert (progress.microbatch, progress.step, progress.skipped) == (2, 3, 0)
    found, wanted = rows(run, Step), rows(undisturbed, Step)
    assert [row.loss for row in found] == pytest.approx([row.loss for row in wanted], rel=1e-4)
    assert [row.first_row for row in found] == [row.first_row for row in wanted]
