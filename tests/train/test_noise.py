"""The gradient noise scale, against problems whose noise is known, and what a run does with it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuday.core.journal import Noise, Step
from gpuday.core.rundir import RunDir
from gpuday.objectives import Learner
from gpuday.optim.adamw import Adamw
from gpuday.recipe import Recipe
from gpuday.train.batches import Batches
from gpuday.train.noise import Estimate, Halves, estimate, products
from gpuday.train.parallel import Ranks
from gpuday.train.parameters import named_parameters
from gpuday.train.step import Outcome, Rest, take_step
from trained_run import rows

TrainRun = Callable[..., Any]
MakeRecipe = Callable[..., Recipe]


class Regression(Learner):
    """Loss mean (w x - y)^2 / 2 over the rows x [R, D] ~ N(0, 1) of a step, y = e + noise, at w = 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(width))

    @property
    def predictor(self) -> Any:
        raise NotImplementedError

    def forward(self, inputs: dict[str, Tensor], kind: str) -> Tensor:
        return ((inputs["x"] @ self.w - inputs["y"]) ** 2 / 2 * inputs["weights"]).sum()

    def compile(self, **options: Any) -> None:
        raise NotImplementedError


def cut(x: Tensor, y: Tensor, size: int, *, of: int) -> Callable[[], Iterator[dict[str, Tensor]]]:
    """Micro-batches of `size` rows."""
    weights = torch.full((len(x),), 1 / of)
    parts = [t.split(size) for t in (x, y, weights)]
    return lambda: (dict(zip(("x", "y", "weights"), some, strict=True)) for some in zip(*parts, strict=True))


def step(learner: Learner, x: Tensor, y: Tensor, halves: Halves, *, ranks: Ranks, size: int = 100) -> Outcome:
    """One at rate 0, whose halves are told apart; each is cut into micro-batches, which are dealt to the ranks in turn."""
    first, rest = (cut(x[part], y[part], size, of=len(x)) for part in (slice(halves.first), slice(halves.first, None)))

    def mine(half: Callable[[], Iterator[dict[str, Tensor]]]) -> list[dict[str, Tensor]]:
        return list(half())[ranks.rank :: ranks.size]

    return take_step(
        learner,
        Adamw().build(named_parameters(learner)),
        partial(mine, first),
        rest=Rest(partial(mine, rest), halves),
        multiplier=0.0,
        kind="",
        clip=0.0,
        ranks=ranks,
    )


@pytest.mark.parametrize(("count", "halves"), [(32, Halves(16, 16)), (24, Halves(6, 18)), (16, Halves.of(16))])
def test_signal_and_trace_of_a_linear_regression_are_those_of_the_formula(count: int, halves: Halves) -> None:
    """x ~ N(0, 1) in D dimensions, y = e x + s noise, at w = 0: the mean gradient is -e, and by the fourth moments of a
    normal distribution its covariance has the trace (D + 1) |e|^2 + D s^2. The mean of 1,200 unbiased estimates, with
    a standard error of 1.5%, meets both within 6%; so do halves of unequal size."""
    torch.manual_seed(0)
    width, many, noise = 8, 1200, 0.5
    e = torch.linspace(0.5, 1.0, width)
    learner = Regression(width)
    found = []
    for _ in range(many):
        x = torch.randn(count, width)
        found.append(step(learner, x, x @ e + noise * torch.randn(count), halves, ranks=Ranks()).noise)
    signal, trace = (sum(getattr(one, name) for one in found) / many for name in ("signal", "trace"))
    assert signal == pytest.approx(float(e @ e), rel=0.06)
    assert trace == pytest.approx((width + 1) * float(e @ e) + width * noise**2, rel=0.06)


def test_an_estimate_by_hand() -> None:
    """Halves of two rows with gradients (1, 0) and (0, 1): their product is 0, the square of their distance 2, and a row's
    covariance has the trace 2. Of two rows and one, with (2, 0) and (1, 0): 2, 1, and 1 / (1/2 + 1)."""
    first, whole = [torch.tensor([0.5, 0.0])], [torch.tensor([0.5, 0.5])]
    assert estimate(*products(first, whole).tolist(), halves=Halves(2, 2)) == Estimate(0.0, 2.0)
    first, whole = [torch.tensor([[4 / 3], [0.0]])], [torch.tensor([[5 / 3], [0.0]])]
    found = estimate(*products(first, whole).tolist(), halves=Halves(2, 1))
    assert (found.signal, found.trace) == (pytest.approx(2.0, rel=1e-6), pytest.approx(2 / 3, rel=1e-5))


def test_the_average_of_equal_measurements_has_their_scale_from_the_first_on() -> None:
    """Nothing is to be corrected: what is missing at first is missing in both."""
    known, scales = Estimate(0.0, 0.0), []
    for _ in range(5):
        known = known.then(Estimate(0.5, 6.0))
        scales.append(known.rows)
    assert scales == pytest.approx([12.0] * 5)
    assert known.signal < 0.5


class Beside(Ranks):
    """Two ranks in two threads of one process, which add like those of two devices."""

    def __init__(self, rank: int, both: threading.Barrier, given: list[list[Tensor]]) -> None:
        super().__init__(rank, 2)
        self._both, self._given = both, given

    def add(self, tensors: Any, room: Tensor) -> None:
        self._given[self.rank] = [t.clone() for t in tensors]
        self._both.wait()
        for tensor, one, other in zip(tensors, *self._given, strict=True):
            tensor.copy_(one + other)
        self._both.wait()


def test_two_ranks_measure_what_one_measures_alone() -> None:
    """Micro-batches of three rows, four in the first half and four in the second, dealt in turn; the same on both to the
    bit, and that of one rank within rounding."""
    torch.manual_seed(0)
    x, y = torch.randn(24, 8), torch.randn(24)
    halves = Halves.of(24)
    alone = step(Regression(8), x, y, halves, ranks=Ranks(), size=3).noise
    both, given = threading.Barrier(2, timeout=20), [[], []]
    with ThreadPoolExecutor(2) as pool:
        ranks = [Beside(rank, both, given) for rank in range(2)]
        found = list(pool.map(lambda r: step(Regression(8), x, y, halves, ranks=r, size=3).noise, ranks))
    assert alone is not None and found[0] == found[1]
    assert (found[0].signal, found[0].trace) == (pytest.approx(alone.signal, rel=1e-4), pytest.approx(alone.trace))


@pytest.fixture
def adaptive(make_recipe: MakeRecipe) -> Recipe:
    """Sixteen steps of 2 to 16 rows, the noise measured in every second one."""
    return make_recipe("16steps", batch__noise=1.5, batch__noise_every=2, batch__least_tokens=64, batch__rows=16)


def test_the_rows_of_a_run_follow_what_it_measured(train_run: TrainRun, adaptive: Recipe, run: RunDir) -> None:
    """Two rows until the first measurement, then 1.5 times the scale in the journal, in twos, between 2 and 16."""
    train_run(adaptive, fit={"rows": 16, "microbatch": 1})
    measured = {row.step: row.scale for row in rows(run, Noise)}
    steps = rows(run, Step)
    assert list(measured) == [1, 3, 5, 7, 9, 11, 13, 15]
    assert steps[0].rows == 2
    for one, row in pairwise(steps):
        scale = measured.get(one.step, measured.get(one.step - 1))
        within = 16 if scale != scale else min(16, max(1, round(1.5 * scale / 2)) * 2)  # a NaN stands for no signal
        assert row.rows == within
    assert len({row.rows for row in steps}) > 2


def test_measuring_moves_no_weight(train_run: TrainRun, make_recipe: MakeRecipe, run: RunDir) -> None:
    """The full batch throughout, told apart in every step or never: halves are cut at the same rows, since two divide
    them, and the losses are the same to the bit."""
    whole = RunDir(run.root.with_name("whole"))
    options = {"batch__least_tokens": 1 << 20}
    train_run(make_recipe(**options), at=whole)
    train_run(make_recipe(**options, batch__noise=1.0, batch__noise_every=1))
    assert [r.loss for r in rows(run, Step)] == [r.loss for r in rows(whole, Step)]
    assert (len(rows(run, Noise)), len(rows(whole, Noise))) == (6, 0)


def test_two_halves_of_a_step_are_the_step(make_batches: Callable[..., Batches]) -> None:
    """Of ten rows, four and six, told to be of ten: the same tokens, labels and weights in the same order."""
    options = {"multiplier": 1.0, "kind": "masked", "microbatch": 2}
    whole = list(make_batches().step(40, 10, **options))
    halves = [*make_batches().step(40, 4, of=10, **options), *make_batches().step(44, 6, of=10, **options)]
    assert len(whole) == len(halves)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(whole, halves, strict=True) for name in a)
