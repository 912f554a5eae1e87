"""Every schedule of the crammed paper's code has a configuration here, and the values that its formula has.

The formulas are written down from that code by hand, with x the used fraction of the budget, w a warm-up and c a
cool-down as shares, and without the code's rounding of x to a number of steps. What it gets wrong is named beside the
evident intention, which is what is compared.
"""

import math

import pytest

from gpuday.schedules.constant import Constant
from gpuday.schedules.cosine import Cosine
from gpuday.schedules.cosine_restarts import CosineRestarts
from gpuday.schedules.dive import Dive
from gpuday.schedules.inverse_sqrt import InverseSqrt
from gpuday.schedules.linear import Linear
from gpuday.schedules.multi_cycle import MultiCycle
from gpuday.schedules.one_cycle import OneCycle
from gpuday.schedules.polynomial import Polynomial
from gpuday.schedules.ramp import Ramp
from gpuday.schedules.trapezoid import Trapezoid
from gpuday.schedules.triangle import Triangle

W, C = 0.05, 0.2
FLOOR = 1e-7 / 1e-4  # `polynomial-decay` ends at 1e-7, which is this share of the original recipe's rate
FRACTIONS = [i / 100 for i in range(101)]


def warmed(x, body):
    """Their warm-up, alike in all schedules that have one: x / w, and the body from w on."""
    return x / W if x < W else body(x)


def cooled(x, body):
    """Their cool-down: the value that the body has at 1 - c, times the share of the cool-down that is left."""
    return body(1 - C) * (1 - x) / C if x > 1 - C else body(x)


def one_cycle(x):
    return 2 * x if x < 0.5 else 2 - 2 * x


def inverse_sqrt(x):
    return math.sqrt(W / x)


def polynomial(x):
    # The code takes the number of the step for the used time; with the used time it is this.
    return 1 - (x - W) / (1 - W)


def annealing(x):
    # Its remainder of 4 is 0 at the deadline, where the rate would jump back to its peak; the last cycle ends instead.
    return 0.5 * (1 + math.cos(math.pi * ((4 * (x - W) / (1 - W)) % 1.0))) if x < 1 else 0.0


def rising(x):
    return 0.5 * (1 + math.cos(math.pi * (1 - x)))


def dive(fall):
    # The code's warm-up compares steps of micro-batches and the paper's sweep has none. Its values past the deadline
    # are negative; up to it, they are these.
    return lambda x: min(1.0, (1 - x) / fall)


def triangle(start):
    return lambda x: min(start + x * (1 - start) / 0.75, 4 * (1 - x))


def decay(end):
    return lambda x: warmed(x, lambda t: end + (1 - end) * (1 - (t - W) / (1 - W)))


def half_cosine(x):
    return warmed(x, lambda t: 0.5 * (1 + math.cos(math.pi * (t - W) / (1 - W))))


TABLE = {
    "polynomial-decay": (Polynomial(power=1.0, warmup=W, end=FLOOR), decay(FLOOR)),
    "cosine-decay": (Cosine(warmup=W), half_cosine),
    "inverse-sqrt": (InverseSqrt(warmup=W, timescale=W), lambda x: warmed(x, inverse_sqrt)),
    # Without a cool-down the code divides by zero at its last step.
    "budget-inverse-sqrt": (
        InverseSqrt(warmup=W, timescale=W, cooldown=C),
        lambda x: warmed(x, lambda t: cooled(t, inverse_sqrt)),
    ),
    "one-cycle": (OneCycle(start=0.0, peak=0.5), one_cycle),
    "budget-one-cycle": (OneCycle(start=0.0, peak=0.5), one_cycle),
    "ramp": (Ramp(), lambda x: x),
    "budget-ramp": (Ramp(cooldown=C), lambda x: cooled(x, lambda t: t)),
    "budget-constant": (Trapezoid(warmup=W, cooldown=C), lambda x: warmed(x, lambda t: min(1.0, (1 - t) / C))),
    "budget-constant, neither": (Constant(), lambda x: 1.0),
    "budget-linear": (Linear(warmup=W), decay(0.0)),
    "budget-linear, w = 0": (Linear(warmup=0.0), lambda x: 1 - x),
    "budget-cosine-decay": (Cosine(warmup=W), half_cosine),
    "budget-cosine-decay, w = 0": (Cosine(warmup=0.0), lambda x: 0.5 * (1 + math.cos(math.pi * x))),
    "budget-cosine-annealing": (CosineRestarts(warmup=W, cycles=4, rise=0.0), lambda x: warmed(x, annealing)),
    "budget-polynomial": (Polynomial(power=1.0, warmup=W), lambda x: warmed(x, polynomial)),
    "budget-multi-cycle": (MultiCycle(cycles=8), lambda x: one_cycle(8 * x % 1)),
    "budget-inv-cosine": (Cosine(warmup=0.0, rising=True), rising),
    "budget-inv-cosine, c": (Cosine(warmup=0.0, rising=True, cooldown=C), lambda x: cooled(x, rising)),
    "budget-dive": (Dive(warmup=0.0, fall=0.5), dive(0.5)),
    "budget-dive-slow": (Dive(warmup=0.0, fall=0.75), dive(0.75)),
    "budget-dive-fast": (Dive(warmup=0.0, fall=0.25), dive(0.25)),
    "budget-triangle1": (Triangle(start=0.5), triangle(0.5)),
    "budget-triangle2": (Triangle(start=0.25), triangle(0.25)),
    "triangle2": (Triangle(start=0.25), triangle(0.25)),
    "none": (Constant(), lambda x: 1.0),
}


@pytest.mark.parametrize("name", list(TABLE))
def test_a_schedule_of_the_papers_code_is_expressed(name):
    """At 101 fractions of the budget, its ends among them."""
    ours, theirs = TABLE[name]
    assert [ours(x) for x in FRACTIONS] == pytest.approx([theirs(x) for x in FRACTIONS], abs=1e-12)


def from_transformers(name, **more):
    """A schedule of transformers over 1,000 steps with 50 of warm-up, at every tenth of them."""
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    (at_step,) = get_scheduler(
        name, optimizer, num_warmup_steps=50, num_training_steps=1000, scheduler_specific_kwargs=more
    ).lr_lambdas
    return [at_step(10 * i) for i in range(101)]


@pytest.mark.parametrize(
    ("name", "more", "ours"),
    [
        ("constant", {}, Constant()),
        ("constant_with_warmup", {}, Constant(warmup=W)),
        ("linear", {}, Linear(warmup=W)),
        ("cosine", {}, Cosine(warmup=W)),
        ("cosine_with_restarts", {"num_cycles": 3}, CosineRestarts(warmup=W, cycles=3, rise=0.0)),
        ("polynomial", {"power": 3.0, "lr_end": 0.1}, Polynomial(warmup=W, power=3.0, end=0.1)),
        ("inverse_sqrt", {"timescale": 200}, InverseSqrt(warmup=W, timescale=0.2)),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}, Cosine(warmup=W, end=0.1)),
        *(
            (
                "warmup_stable_decay",
                {"num_decay_steps": 250, "decay_type": theirs},
                Trapezoid(warmup=W, cooldown=0.25, cooldown_shape=shape),
            )
            for theirs, shape in (("linear", "linear"), ("1-sqrt", "sqrt"), ("cosine", "cosine"))
        ),
    ],
)
def test_the_schedules_that_it_takes_from_transformers_are_theirs(name, more, ours):
    """Their functions, asked at the same fractions; and the cool-downs that they have had since."""
    pytest.importorskip("transformers")
    assert [ours(x) for x in FRACTIONS] == pytest.approx(from_transformers(name, **more), abs=1e-9)


@pytest.mark.parametrize("warmup", [0.0, 0.1])
@pytest.mark.parametrize("cooldown", [0.0, 0.1, 0.3])
def test_every_shape_of_the_papers_sweep_takes_the_same_phases(warmup, cooldown):
    """Its comparison of shapes gave some a warm-up, some a cool-down and two both. Here all rise from 0 over the same
    share, are themselves until the same one is left, and end at 0."""
    shapes = {
        "triangle2": Triangle(warmup=warmup, cooldown=cooldown),
        "cosine": Cosine(warmup=warmup, cooldown=cooldown),
        "inv-sqrt": InverseSqrt(warmup=warmup, cooldown=cooldown),
        "linear": Linear(warmup=warmup, cooldown=cooldown),
        "one-cycle": OneCycle(warmup=warmup, cooldown=cooldown),
        "ramp": Ramp(start=0.1, warmup=warmup, cooldown=cooldown),
        "dive": Dive(warmup=warmup, cooldown=cooldown),
        "dive-slow": Dive(fall=0.75, warmup=warmup, cooldown=cooldown),
        "constant": Constant(warmup=warmup, cooldown=cooldown),
        "multi-cycle": MultiCycle(warmup=warmup, cooldown=cooldown),
        "annealing": CosineRestarts(warmup=warmup, cooldown=cooldown),
        "polynomial": Polynomial(warmup=warmup, cooldown=cooldown),
        "inv-cosine": Cosine(rising=True, warmup=warmup, cooldown=cooldown),
    }
    for name, rate in shapes.items():
        if warmup:
            assert [rate(0.0), rate(warmup / 2)] == pytest.approx([0.0, rate(warmup) / 2]), name
        if cooldown:
            top = rate(1.0 - cooldown)
            assert [rate(1.0 - cooldown / 2), rate(1.0)] == pytest.approx([top / 2, 0.0], abs=1e-12), name
