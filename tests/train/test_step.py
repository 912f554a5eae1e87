"""A step: many micro-batches are one batch, gradients are clipped once, and what is not finite changes nothing."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuday.core.clock import Budget
from gpuday.objectives import Learner
from gpuday.optim import Stepper
from gpuday.presets import find, names
from gpuday.train.parallel import Ranks, TooLarge
from gpuday.train.parameters import named_parameters
from gpuday.train.signals import Leave, Signals
from gpuday.train.step import Outcome, take_step

MakeBatches = Callable[..., Any]


class Bowl(Learner):
    """Loss sum_i weight_i * slope * w: its gradient is known by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        self.frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    @property
    def predictor(self) -> Any:
        raise NotImplementedError

    def forward(self, inputs: dict[str, Tensor], kind: str) -> Tensor:
        return (inputs["slope"] * self.w).sum()

    def compile(self, **options: Any) -> None:
        raise NotImplementedError


class Watching(Stepper):
    """Keeps what it was given: the gradient at the time, and the multiplier."""

    def __init__(self, learner: Learner, *, ask_again: bool = False) -> None:
        self._learner, self._ask_again = learner, ask_again
        self.seen: list[tuple[float, list[float]]] = []

    def step(self, multiplier: float, closure: Callable[[], None], *, decay: float = 1.0) -> None:
        if self._ask_again:
            assert closure() is None
        self.seen.append((multiplier, self._learner.w.grad.tolist()))

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        yield

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        pass


def slopes(*values: tuple[float, float]) -> Callable[[], Iterator[dict[str, Tensor]]]:
    return lambda: iter([{"slope": torch.tensor(v)} for v in values])


def test_gradients_of_micro_batches_add_up() -> None:
    """By hand: slopes (1, 2) and (2, 2) at w = (1, 2) give loss 5 + 6, gradient (3, 4), norm 5."""
    learner = Bowl()
    stepper = Watching(learner)
    outcome = take_step(
        learner, stepper, slopes((1, 2), (2, 2)), multiplier=0.25, kind="masked", clip=0.0, ranks=Ranks()
    )
    assert outcome == Outcome(loss=11.0, gradient_norm=5.0, skipped=False)
    assert stepper.seen == [(0.25, [3.0, 4.0])]


@pytest.mark.parametrize(
    ("clip", "wanted"), [(0.0, [3.0, 4.0]), (10.0, [3.0, 4.0]), (5.0, [3.0, 4.0]), (1.0, [0.6, 0.8])]
)
def test_the_whole_gradient_is_clipped_and_the_norm_before_is_told(clip: float, wanted: list[float]) -> None:
    """Its direction stays; a norm below the limit stays too; 0 leaves it alone."""
    learner = Bowl()
    stepper = Watching(learner)
    outcome = take_step(
        learner, stepper, slopes((1, 2), (2, 2)), multiplier=1.0, kind="masked", clip=clip, ranks=Ranks()
    )
    assert outcome.gradient_norm == 5.0
    assert stepper.seen[0][1] == pytest.approx(wanted, rel=1e-5)


def test_gradients_of_the_step_before_are_gone() -> None:
    """Two equal steps see equal gradients."""
    learner = Bowl()
    stepper = Watching(learner)
    for _ in range(2):
        take_step(learner, stepper, slopes((3, 4)), multiplier=1.0, kind="masked", clip=0.0, ranks=Ranks())
    assert stepper.seen == [(1.0, [3.0, 4.0])] * 2


def test_the_optimizer_hears_the_share_of_the_weight_decay() -> None:
    """As the schedule says it for the step; all of it where nothing is said."""
    learner, heard = Bowl(), []

    class Hearing(Watching):
        def step(self, multiplier: float, closure: Callable[[], None], *, decay: float = 1.0) -> None:
            heard.append(decay)

    for more in ({"decay": 0.25}, {}):
        options = {"multiplier": 1.0, "kind": "masked", "clip": 0.0, "ranks": Ranks(), **more}
        take_step(learner, Hearing(learner), slopes((3, 4)), **options)
    assert heard == [0.25, 1.0]


def test_an_update_whose_second_point_is_not_finite_is_not_made() -> None:
    """The closure refuses it, the optimizer lets that pass, and the outcome gives the reason; the loss is the first's."""

    class Climbing(Watching):
        def step(self, multiplier: float, closure: Callable[[], None], *, decay: float = 1.0) -> None:
            with torch.no_grad():
                self._learner.w.fill_(float("inf"))
            try:
                closure()
            finally:
                with torch.no_grad():
                    self._learner.w.copy_(torch.tensor([1.0, 2.0]))
            super().step(multiplier, closure, decay=decay)

    learner = Bowl()
    stepper = Climbing(learner)
    options = {"multiplier": 1.0, "kind": "masked", "clip": 0.0, "ranks": Ranks()}
    outcome = take_step(learner, stepper, slopes((3, 4)), **options)
    assert outcome.skipped and "loss is not finite at another point" in outcome.reason
    assert (outcome.loss, stepper.seen) == (11.0, [])


def test_an_optimizer_may_ask_for_the_gradient_again() -> None:
    """The closure makes the same step's gradients anew, clipped alike, and not on top of the old ones."""
    learner = Bowl()
    stepper = Watching(learner, ask_again=True)
    take_step(learner, stepper, slopes((1, 2), (2, 2)), multiplier=1.0, kind="masked", clip=1.0, ranks=Ranks())
    assert stepper.seen[0][1] == pytest.approx([0.6, 0.8], rel=1e-5)


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize(
    "bad", [(float("nan"), 0.0), (float("inf"), 0.0), (0.0, -float("inf"))], ids=["nan", "inf", "minus inf"]
)
def test_an_update_that_is_not_finite_is_not_made(bad: tuple[float, float], clip: float) -> None:
    """The optimizer is not even asked, and the outcome says so."""
    learner = Bowl()
    stepper = Watching(learner)
    outcome = take_step(learner, stepper, slopes((1, 2), bad), multiplier=1.0, kind="masked", clip=clip, ranks=Ranks())
    assert outcome.skipped
    assert stepper.seen == []


def test_a_finite_loss_with_a_gradient_that_is_not_is_no_update_either() -> None:
    """The square root at zero: the loss is 0, its slope is infinite."""

    class Root(Bowl):
        def forward(self, inputs: dict[str, Tensor], kind: str) -> Tensor:
            return (self.w - self.w.detach()).sum().sqrt()

    learner = Root()
    stepper = Watching(learner)
    outcome = take_step(learner, stepper, slopes((0, 0)), multiplier=1.0, kind="masked", clip=0.0, ranks=Ranks())
    assert outcome.loss == 0.0
    assert outcome.skipped and stepper.seen == []


@pytest.mark.parametrize("preset", names())
def test_weights_and_moments_stay_to_the_bit_when_an_update_is_skipped(preset: str) -> None:
    """With the real optimizers of all presets: nothing decays, no moment moves, no step is counted."""
    optimizer = find(preset)("nano", Budget.parse("10m")).optimizer
    learner = Bowl()
    stepper = optimizer.build(named_parameters(learner)[:1])
    take_step(learner, stepper, slopes((1, 2)), multiplier=1.0, kind="masked", clip=0.0, ranks=Ranks())
    before = [learner.w.detach().clone(), *(t.clone() for t in stepper.state().values())]
    take_step(learner, stepper, slopes((float("nan"), 2)), multiplier=1.0, kind="masked", clip=0.0, ranks=Ranks())
    after = [learner.w.detach(), *stepper.state().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("microbatch", [1, 2, 3, 4])
def test_many_micro_batches_equal_one_batch(make_batches: MakeBatches, learner: Learner, microbatch: int) -> None:
    """Eight rows at once, and in eight, four, three (one padded) and two pieces: one gradient within rounding."""
    gradients = []
    for size in (8, microbatch):
        batches = make_batches()
        stepper = Collecting(learner)
        outcome = take_step(
            learner, stepper, lambda b=batches, n=size: b.step(40, 8, multiplier=1.0, kind="masked", microbatch=n),
            multiplier=1.0, kind="masked", clip=0.0, ranks=Ranks(),
        )  # fmt: skip
        gradients.append((outcome, stepper.gradient))
    (whole, a), (pieces, b) = gradients
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-6)
    assert pieces.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-5)
    torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-7)


class Collecting(Watching):
    def step(self, multiplier: float, closure: Callable[[], None], *, decay: float = 1.0) -> None:
        self.gradient = torch.cat([p.grad.flatten().clone() for p in self._learner.parameters()])


def test_the_gradient_is_accumulated_in_fp32_where_the_model_computes_in_bf16(
    make_batches: MakeBatches, learner: Learner
) -> None:
    """Sixty-four pieces against one batch: an accumulator of eight bits would be off by percents."""
    learner.model.encoder.dtype = torch.bfloat16
    gradients = []
    for size in (64, 1):
        batches, stepper = make_batches(), Collecting(learner)
        take_step(
            learner, stepper, lambda b=batches, n=size: b.step(0, 64, multiplier=1.0, kind="masked", microbatch=n),
            multiplier=1.0, kind="masked", clip=0.0, ranks=Ranks(),
        )  # fmt: skip
        gradients.append(stepper.gradient)
        assert stepper.gradient.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.9995
    assert gradients[1].norm() == pytest.approx(float(gradients[0].norm()), rel=5e-3)


def memory_faults() -> list[BaseException]:
    """As allocators raise them: CUDA's, Python's, and the CPU's own."""
    return [
        torch.OutOfMemoryError("out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ]


@pytest.mark.parametrize("fault", memory_faults(), ids=lambda fault: type(fault).__name__)
def test_memory_that_runs_out_before_the_update_touches_nothing(fault: BaseException) -> None:
    """In the second micro-batch: the optimizer is not asked, and the gradients of the first are given back."""

    def microbatches() -> Iterator[dict[str, Tensor]]:
        yield {"slope": torch.tensor((1.0, 2.0))}
        raise fault

    learner = Bowl()
    stepper = Watching(learner)
    with pytest.raises(TooLarge):
        take_step(learner, stepper, microbatches, multiplier=1.0, kind="masked", clip=0.0, ranks=Ranks())
    assert stepper.seen == []
    assert learner.w.grad is None
    assert learner.w.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_memory_that_runs_out_between_the_last_micro_batch_and_the_update_touches_nothing(
    monkeypatch: pytest.MonkeyPatch, clip: float
) -> None:
    """Room for the ranks' sum, or the norm's: the step can be made again like any other."""

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    for owner, name in ((Ranks, "room"), (torch.nn.utils, "get_total_norm")):
        learner = Bowl()
        stepper = Watching(learner)
        with monkeypatch.context() as patch, pytest.raises(TooLarge):
            patch.setattr(owner, name, full)
            take_step(learner, stepper, slopes((1, 2), (2, 2)), multiplier=1.0, kind="masked", clip=clip, ranks=Ranks())
        assert stepper.seen == []
        assert learner.w.grad is None
        assert learner.w.tolist() == [1.0, 2.0]


def test_a_signal_between_two_micro_batches_touches_nothing() -> None:
    """It is met where the next would be computed: the optimizer is not asked, and the gradients are given back."""
    learner, computed = Bowl(), []
    stepper = Watching(learner)

    def microbatches() -> Iterator[dict[str, Tensor]]:
        for i in range(100):
            computed.append(i)
            if i == 3:
                os.kill(os.getpid(), signal.SIGUSR1)
            yield {"slope": torch.tensor((1.0, 2.0))}

    with Signals() as signals, pytest.raises(Leave, match="SIGUSR1"):
        take_step(
            learner, stepper, microbatches,
            multiplier=1.0, kind="masked", clip=0.0, ranks=Ranks(), interruptible=signals.interruptible,
        )  # fmt: skip
    assert computed == [0, 1, 2, 3]
    assert stepper.seen == []
    assert learner.w.grad is None
    assert learner.w.tolist() == [1.0, 2.0]


def test_a_signal_in_the_update_waits_for_its_end() -> None:
    """Also where the optimizer asks for the gradients anew: weights have moved by then."""

    class Asked(Watching):
        def step(self, multiplier: float, closure: Callable[[], None], *, decay: float = 1.0) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            super().step(multiplier, closure, decay=decay)

    learner = Bowl()
    stepper = Asked(learner, ask_again=True)
    with pytest.raises(ZeroDivisionError), Signals() as signals:  # else the signal goes to the handler before
        take_step(
            learner, stepper, slopes((1, 2)),
            multiplier=1.0, kind="masked", clip=0.0, ranks=Ranks(), interruptible=signals.interruptible,
        )  # fmt: skip
        assert signals.received == "SIGTERM"
        raise ZeroDivisionError
    assert stepper.seen == [(1.0, [1.0, 2.0])]


def test_memory_that_runs_out_in_the_update_is_an_error_of_its_own() -> None:
    """Some weights may have moved by then, so that the step cannot be made again."""

    class Full(Watching):
        def step(self, multiplier: float, closure: Callable[[], None], *, decay: float = 1.0) -> None:
            raise torch.OutOfMemoryError("out of memory")

    learner = Bowl()
    with pytest.raises(torch.OutOfMemoryError):
        take_step(learner, Full(learner), slopes((1, 2)), multiplier=1.0, kind="masked", clip=0.0, ranks=Ranks())


@pytest.mark.parametrize("fault", memory_faults(), ids=lambda fault: type(fault).__name__)
def test_memory_that_runs_out_at_another_point_lets_the_step_be_made_again(fault: BaseException) -> None:
    """The optimizer has put its weights back by then: TooLarge as in the first pass, no gradient left, and a step that is
    then made counts the gradients of its own attempt alone."""
    attempts = 0

    def microbatches() -> Iterator[dict[str, Tensor]]:
        nonlocal attempts
        attempts += 1
        yield {"slope": torch.tensor((1.0, 2.0))}
        if attempts == 2:
            raise fault

    learner = Bowl()
    stepper = Watching(learner, ask_again=True)
    options = {"multiplier": 1.0, "kind": "masked", "clip": 0.0, "ranks": Ranks()}
    with pytest.raises(TooLarge):
        take_step(learner, stepper, microbatches, **options)
    assert stepper.seen == [] and learner.w.grad is None
    outcome = take_step(learner, stepper, microbatches, **options)
    assert (outcome.skipped, outcome.gradients, stepper.seen) == (False, 2, [(1.0, [1.0, 2.0])])


def test_another_fault_is_not_taken_for_a_lack_of_memory() -> None:
    """A RuntimeError that says something else reaches the caller as it is."""

    def microbatches() -> Iterator[dict[str, Tensor]]:
        yield {"slope": torch.ones(3)}

    learner = Bowl()
    with pytest.raises(RuntimeError, match="size of tensor"):
        take_step(learner, Watching(learner), microbatches, multiplier=1.0, kind="masked", clip=0.0, ranks=Ranks())
