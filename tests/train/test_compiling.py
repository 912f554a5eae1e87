"""Compiling: the same losses as eager, and no more compilations than mask levels and one trunk."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from gpuday.core.journal import Step, read
from gpuday.core.rundir import RunDir
from gpuday.objectives.mlm import MaskedLearner
from gpuday.recipe import Recipe

TrainRun = Callable[..., Any]
MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is handed to the compiler, 'trunk' or 'head' each; the graphs then run as they are, since C++ is slow."""
    compiled: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        compiled.append("head" if "cross_entropy" in graph.code else "trunk")
        return graph.forward

    compile_really = MaskedLearner.compile
    monkeypatch.setattr(MaskedLearner, "compile", lambda self, **o: compile_really(self, **o, backend=backend))
    torch.compiler.reset()
    yield compiled
    torch.compiler.reset()


# Dynamo looks at the gradient of whatever tensor it is handed, and hides the warning from all but `error` filters.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_run_compiles_the_trunk_once_and_the_head_once_for_each_mask_level(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir, graphs: list[str]
) -> None:
    """Over a whole run with two levels, padded micro-batches and looks in between; and it learns as eager does."""
    recipe = make_recipe("10steps", train__mask_levels=2, train__validate_every=0.2)
    compiled, _ = train_run(recipe, fit={"compiled": True, "microbatch": 3})
    levels = {row.masked for _, row in read(run.journal) if isinstance(row, Step)}
    assert len(levels) == 2
    assert sorted(graphs) == ["head", "head", "trunk"]
    eager_run = RunDir(run.root.with_name("eager"))
    eager, _ = train_run(recipe, at=eager_run, fit={"microbatch": 3})
    assert sorted(graphs) == ["head", "head", "trunk"]
    losses = [[row.loss for _, row in read(r.journal) if isinstance(row, Step)] for r in (run, eager_run)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert compiled.final["nats_per_token"] == pytest.approx(eager.final["nats_per_token"], rel=1e-4)
