"""What a run compiles: one trunk, the head once for each mask level, nothing else, and no graph in two pieces."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from gpuday.core import config
from gpuday.core.clock import Budget
from gpuday.core.journal import Note, Step, read
from gpuday.core.rundir import RunDir
from gpuday.objectives import Learner, Vocabulary
from gpuday.objectives.mlm import MaskedLearner
from gpuday.presets import find, names
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner
from gpuday.train.scheduled import Scheduled
from gpuday.train.stepping import compilations

TrainRun = Callable[..., Any]
MakeRecipe = Callable[..., Recipe]

# Dynamo looks at the gradient of whatever tensor it is handed, and hides the warning from all but `error` filters.
MLM = {"part": "mlm", "rate": 0.4}  # masks alone, of as many tokens as the preset's
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


@pytest.fixture(autouse=True)
def captured_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Graphs are captured as for the compiler and then run as they are, since C++ is slow."""
    compile_really = MaskedLearner.compile
    options = {"dynamic": False, "fullgraph": True, "backend": "eager"}
    monkeypatch.setattr(MaskedLearner, "compile", lambda self, **_: compile_really(self, **options))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def graphs_by_step(train_run: TrainRun, recipe: Recipe, **fit: Any) -> tuple[list[int], Any]:
    """How many graphs each step compiled, and the progress at the end."""
    totals = [compilations()]

    def tell(event: str, /, **values: Any) -> None:
        if event == "step":
            totals.append(compilations())

    progress, _ = train_run(recipe, tell=tell, fit={"compiled": True, **fit})
    return [int(n) for n in np.diff(totals)], progress


def test_only_the_first_step_of_a_mask_level_compiles(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir
) -> None:
    """Two levels, a batch that grows, a padded last micro-batch, looks and saves in between: trunk and head once, then
    the head once more; all of it in the steps that are booked so, and the total in the progress."""
    ramp = {"part": "ramp", "start": 0.3, "until": 0.6}
    changes = {
        "train__mask_levels": 2,
        "train__validate_every": 0.2,
        "batch__ramp": ramp,
        "batch__least_tokens": 128,
        "train__save_every_seconds": 0.0,
    }
    recipe = make_recipe("12steps", objective=MLM, **changes)
    graphs, progress = graphs_by_step(train_run, recipe, rows=11)
    steps = [row for _, row in read(run.journal) if isinstance(row, Step)]
    assert len({s.rows for s in steps}) == 3 and len({s.masked // s.rows for s in steps}) == 2
    assert [g > 0 for g in graphs] == [s.compiled_anew for s in steps]
    first, second = [g for g in graphs if g]
    assert second >= 1 and first == 1 + second
    assert progress.compilations == first + second
    assert not [row for _, row in read(run.journal) if isinstance(row, Note)]


def test_a_turn_from_next_tokens_to_masks_compiles_once_in_the_middle(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir
) -> None:
    """Half of the steps causal, while the mask rate falls: trunk and head at the first of each kind, the head alone at the
    next rate; booked so, in the progress, and foreseen by the count that compiling is charged for."""
    objective = {"part": "hybrid", "mlm": MLM, "first": 0.5, "causal": 0.0, "shift": False}
    recipe = make_recipe("12steps", objective=objective, train__mask_levels=3)
    graphs, progress = graphs_by_step(train_run, recipe)
    steps = [row for _, row in read(run.journal) if isinstance(row, Step)]
    assert [s.question for s in steps] == ["causal"] * 6 + ["masked"] * 6
    assert list(dict.fromkeys(s.masked // s.rows for s in steps)) == [31, 10, 6]
    assert [g > 0 for g in graphs] == [s.compiled_anew for s in steps]
    causal, masked, lower = (g for g in graphs if g)
    assert causal == masked == 1 + lower and progress.compilations == causal + masked + lower
    assert [number for number, count in enumerate(graphs) if count] == [0, 6, 9]
    assert len(Scheduled(recipe, full_rows=8).graphs()) == 3
    assert not [row for _, row in read(run.journal) if isinstance(row, Note)]


def test_each_length_and_each_dropout_compiles_in_its_first_step_and_never_again(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir
) -> None:
    """Two lengths, and a dropout that falls in three levels and rises again through them: four graphs of the trunk, booked
    as compiling in the steps that meet them first; the way back meets none, and a resumed run has the same levels."""
    recipe = make_recipe(
        "16steps",
        model__dropout=0.2,
        train__dropout=True,
        dropout={"part": "stages", "stages": [[0.25, 1.0], [0.5, 0.5], [0.75, 0.0], [0.9, 0.5], [1.0, 1.0]]},
        length={"part": "stages", "stages": [[0.125, 0.5], [1.0, 1.0]]},
        mask_rate={"part": "constant"},
        objective=MLM,
    )
    graphs, _ = graphs_by_step(train_run, recipe)
    steps = [row for _, row in read(run.journal) if isinstance(row, Step)]
    met = [(row.length, row.dropout) for row in steps]
    assert list(dict.fromkeys(met)) == [(16, 1.0), (32, 1.0), (32, 0.5), (32, 0.0)]
    assert met[12:] == [(32, 0.5)] * 3 + [(32, 1.0)]
    first = [met.index(graph) for graph in dict.fromkeys(met)]
    assert [number for number, count in enumerate(graphs) if count] == first
    assert [number for number, row in enumerate(steps) if row.compiled_anew] == first
    assert not [row for _, row in read(run.journal) if isinstance(row, Note)]


def test_more_graphs_than_the_compiler_keeps_by_itself_are_kept(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir
) -> None:
    """With a limit of one graph a region, three mask levels and two lengths: every step is made, each graph once."""
    ramp = {"part": "ramp", "start": 1.0, "end": 0.4}
    length = {"part": "stages", "stages": [[0.5, 0.5], [1.0, 1.0]]}
    recipe = make_recipe("9steps", objective=MLM, train__mask_levels=3, mask_rate=ramp, length=length)
    with torch._dynamo.config.patch(recompile_limit=1):
        graphs, _ = graphs_by_step(train_run, recipe)
    steps = [row for _, row in read(run.journal) if isinstance(row, Step)]
    assert len({(row.length, row.masked // row.rows) for row in steps}) == 4
    assert sum(count > 0 for count in graphs) == 4
    assert not any(row.skipped for row in steps)


def test_a_stage_that_no_hundredth_of_the_budget_meets_is_compiled_like_any_other(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir
) -> None:
    """The second of six steps begins at a sixth of the budget, the only one in rows of 16 tokens: with a limit of one graph
    a region the run would end there, had nobody allowed for it."""
    length = {"part": "stages", "stages": [[0.166, 1.0], [0.167, 0.5], [1.0, 1.0]]}
    recipe = make_recipe("6steps", objective=MLM, length=length, mask_rate={"part": "constant"})
    with torch._dynamo.config.patch(recompile_limit=1):
        graphs, _ = graphs_by_step(train_run, recipe)
    assert [row.length for _, row in read(run.journal) if isinstance(row, Step)] == [32, 16, 32, 32, 32, 32]
    assert [count > 0 for count in graphs] == [True, True, False, False, False, False]


def test_a_compiled_run_has_the_losses_of_an_eager_one(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir
) -> None:
    """With a padded last micro-batch and two levels: the same graphs, run as they are, to fp32 rounding."""
    recipe, eager_run = make_recipe("6steps", train__mask_levels=2), RunDir(run.root.with_name("eager"))
    compiled, _ = train_run(recipe, fit={"compiled": True, "microbatch": 3})
    eager, _ = train_run(recipe, at=eager_run, fit={"microbatch": 3})
    losses = [[row.loss for _, row in read(r.journal) if isinstance(row, Step)] for r in (run, eager_run)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert compiled.final["nats_per_token"] == pytest.approx(eager.final["nats_per_token"], rel=1e-5)


def test_a_smaller_micro_batch_compiles_once_more(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out once: the step is booked as compiling, both graphs are made for the new shape, and that is all."""
    real, calls = MaskedLearner.forward, 0

    def forward(self: Learner, inputs: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, inputs, kind)

    monkeypatch.setattr(MaskedLearner, "forward", forward)
    graphs, progress = graphs_by_step(train_run, make_recipe("6steps", train__mask_levels=1))
    assert [g > 0 for g in graphs] == [True, False, True, False, False, False]
    assert graphs[0] == graphs[2]
    assert progress.compilations == 2 * graphs[0] and progress.microbatch == 2
    assert [row.compiled_anew for _, row in read(run.journal) if isinstance(row, Step)] == [g > 0 for g in graphs]


def test_a_compilation_that_no_level_explains_is_told(
    train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the journal, with the step in which it cost its time."""
    real, calls = MaskedLearner.forward, 0

    def forward(self: Learner, inputs: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 5:
            torch.compiler.reset()
        return real(self, inputs, kind)

    monkeypatch.setattr(MaskedLearner, "forward", forward)
    graphs_by_step(train_run, make_recipe("4steps", train__mask_levels=1))
    (note,) = (row for _, row in read(run.journal) if isinstance(row, Note))
    assert note.step == 3 and "graphs were compiled in a step that should need none" in note.message


@pytest.mark.parametrize("preset", names())
def test_no_preset_breaks_its_graphs(preset: str, vocabulary: Vocabulary) -> None:
    """Trunk and loss are captured whole, with dropout where the preset trains with it: a break is an error here."""
    recipe = find(preset)("nano", Budget.parse("10m"))
    for key, value in {"model.width": 64, "model.mixer.head_width": 32, "model.shape.layers": 3}.items():
        recipe = config.replace_at(recipe, key, value)
    learner = make_learner(recipe, vocab=vocabulary.size).train(recipe.train.dropout)
    rows = np.random.default_rng(0).integers(5, vocabulary.size, (2, recipe.data.length))
    arrays = recipe.objective.inputs(
        rows, np.arange(2, dtype=np.uint64), seed=0, epoch=0, multiplier=1.0, kind="masked", vocabulary=vocabulary
    )
    inputs = {name: torch.from_numpy(values) for name, values in arrays.items()}
    before = compilations()
    learner.compile()
    learner(inputs, "masked").backward()
    assert compilations() - before >= 2  # else nothing was captured that could break
    assert all(p.grad is not None for p in learner.parameters())
