"""Averages in a real training, against numpy over the weights that its checkpoints held: updated at every step that is to
count, decaying, divided by what there is, and kept at the end."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gpuday.core.journal import Step, Validation
from gpuday.core.rundir import RunDir
from gpuday.data.prepared import PreparedData
from gpuday.objectives import Vocabulary
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner
from gpuday.train.checkpoint import load_weights
from gpuday.train.parallel import Ranks
from gpuday.train.saved_folder import Saved
from gpuday.train.validate import HeldOut
from trained_run import STEADY, newest, rows

TrainRun = Callable[..., Any]
CPU = torch.device("cpu")
# Each step is saved, so that the weights of each are on disk once.
EACH = {**STEADY, "train__save_every_seconds": 0.0, "optimizer": {"part": "adamw"}}
G = np.log(0.5) / np.log(1 - 0.25)
# Six updates, of which the last is the present one: the share of each in the average of the end, oldest first.
SHARES = {
    "ema": ({"half_life": 0.25}, [(t**G - (t - 1) ** G) / 6**G for t in range(1, 7)]),
    "lawa": ({"k": 4, "every": 0.0}, [0, 0, 1 / 4, 1 / 4, 1 / 4, 1 / 4]),
    "lawa, not full": ({"k": 8, "every": 0.3}, [0, 0, 1 / 3, 0, 1 / 3, 1 / 3]),
    "soup": ({"start": 0.5, "every": 0.0}, [0, 0, 0, 1 / 3, 1 / 3, 1 / 3]),
}
every_kind = pytest.mark.parametrize("name", list(SHARES))


def average(name: str) -> dict[str, Any]:
    return {"part": name.partition(",")[0], **SHARES[name][0]}


class Trajectory:
    """A screen that reads the newest checkpoint at every event: the weights of each step that was saved while training."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self.weights: dict[int, dict[str, torch.Tensor]] = {}

    def __call__(self, event: str, /, **values: Any) -> None:
        if event in ("step", "validation") and any(self._run.checkpoints.glob("step-*")):
            saved = newest(self._run)
            self.weights.setdefault(saved.state["progress"]["step"], saved.model)

    def mean(self, shares: dict[int, float]) -> dict[str, np.ndarray[Any, Any]]:
        """The weights of these steps, each by its share, in double precision."""
        names = self.weights[1].keys()
        return {
            name: sum(share * self.weights[step][name].double().numpy() for step, share in shares.items())
            for name in names
        }


def assert_holds(saved: Saved, expected: dict[str, np.ndarray[Any, Any]]) -> None:
    assert saved.model.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(saved.model[name].numpy(), values, rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.fixture(scope="module")
def plain(make_recipe: Callable[..., Recipe]) -> Recipe:
    """Six steps, with the last weights kept."""
    return make_recipe("6steps", **EACH)


@every_kind
def test_a_run_ends_with_the_average_that_numpy_computes(
    train_run: TrainRun, make_recipe: Callable[..., Recipe], run: RunDir, data: PreparedData, vocabulary: Vocabulary,
    name: str,
) -> None:  # fmt: skip
    """It is far from the last weights, the last look was at it, and the steps knew nothing of it."""
    recipe, seen = make_recipe("6steps", average=average(name), **EACH), Trajectory(run)
    train_run(recipe, tell=seen)
    assert sorted(seen.weights) == [0, 1, 2, 3, 4, 5, 6]
    final = newest(run)
    assert_holds(final, seen.mean(dict(enumerate(SHARES[name][1], start=1))))
    table = "model.encoder.embedding.weight"
    assert (final.model[table] - seen.weights[6][table]).abs().max() > 1e-4

    learner = make_learner(recipe, vocab=vocabulary.size)
    load_weights(dict(learner.named_parameters()), final.model)
    look = [row for row in rows(run, Validation) if row.final]
    asked = HeldOut(data.heldout, vocabulary, isolate=False).ask(
        learner.model, rows=look[0].rows, microbatch=4, device=CPU, ranks=Ranks()
    )
    assert [row.nats_per_token for row in look] == [pytest.approx(asked.nats_per_token, rel=1e-6)]


def test_averaging_changes_no_step(train_run: TrainRun, make_recipe: Callable[..., Recipe], run: RunDir) -> None:
    """Looks swap the average in and out between the steps, and losses and norms are those of a run without; the looks
    behind the first update are others."""
    options = {**EACH, "train__validate_every": 0.0}
    train_run(make_recipe("6steps", average=average("ema"), **options))
    without = RunDir(run.root.with_name("without"))
    train_run(make_recipe("6steps", **options), at=without)
    one, other = ([(s.loss, s.gradient_norm) for s in rows(at, Step)] for at in (run, without))
    assert one == other
    one, other = ([v.nats_per_token for v in rows(at, Validation)] for at in (run, without))
    assert len(one) == len(other) == 7
    assert [a == b for a, b in zip(one, other, strict=True)] == [True, True] + [False] * 5


def test_an_update_that_was_not_made_enters_no_average(
    train_run: TrainRun, make_recipe: Callable[..., Recipe], run: RunDir, injector: Any, at_rows: Callable[..., list[Any]]
) -> None:  # fmt: skip
    """The third of six: the weights that it leaves as they were count once."""
    seen = Trajectory(run)
    injector.bad.extend(at_rows("NaN in the loss", 16))
    train_run(make_recipe("6steps", average={"part": "soup", "start": 0.0, "every": 0.0}, **EACH), tell=seen)
    assert [step.skipped for step in rows(run, Step)] == [False, False, True, False, False, False]
    assert_holds(newest(run), seen.mean(dict.fromkeys((1, 2, 4, 5, 6), 1 / 5)))
    assert int(newest(run).optimizer["average/count"]) == 5


def test_a_checkpoint_has_what_the_average_needs_and_nothing_where_there_is_none(
    train_run: TrainRun, make_recipe: Callable[..., Recipe], run: RunDir, plain: Recipe
) -> None:
    """Under names of its own beside the optimizer's, which are those of a run without."""
    train_run(make_recipe("6steps", average=average("ema"), **EACH))
    without = RunDir(run.root.with_name("without"))
    train_run(plain, at=without)
    names, others = newest(run).optimizer.keys(), newest(without).optimizer.keys()
    assert others == {name for name in names if not name.startswith("average/")}
    means = {f"average/{name}/mean" for name in newest(run).model}
    assert names - others == {"average/updates", *means}
