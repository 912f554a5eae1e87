"""A recipe: a whole run as one frozen value, from which the run can be rebuilt."""

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Literal

from gpuday.averages import Average
from gpuday.averages.last import Last
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError, at_least, within
from gpuday.core.parts import Part
from gpuday.data.filters import Filter
from gpuday.data.orders import Order
from gpuday.data.prepare import MOST_SEED, DataConfig
from gpuday.data.sources import Source
from gpuday.models.encoder import EncoderConfig
from gpuday.models.feedforward import FeedForward
from gpuday.models.mixers import Mixer
from gpuday.models.shapes import Shape
from gpuday.objectives import Objective
from gpuday.objectives.mlm import Mlm
from gpuday.optim import Optimizer
from gpuday.optim.muon import Muon
from gpuday.optim.sam import Sam
from gpuday.optim.schedule_free import ScheduleFree
from gpuday.schedules import Schedule
from gpuday.schedules.constant import Constant
from gpuday.schedules.trapezoid import Trapezoid

KINDS: dict[str, type[Part]] = {
    "filter": Filter,
    "order": Order,
    "source": Source,
    "mixer": Mixer,
    "feedforward": FeedForward,
    "shape": Shape,
    "objective": Objective,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "average": Average,
}


MOST_ROWS = 1 << 24  # of a step: more than corpora have
MOST_LEVELS = 8  # of a mask rate or a dropout: torch.compile's default limit of recompilations
LEAST_LENGTH = 16  # of a piece of a row, in tokens
MOMENTS = 10_000  # of a budget at which a schedule is looked at beforehand; nobody means a stage that is shorter
MANY = 1_000_000  # tokens, in which shares can be counted
WAVELENGTHS = ("theta", "local_theta")  # knobs of mixers that rotary positions alone read


@lru_cache
def extent(schedule: Schedule) -> tuple[float, float]:
    """The least and the greatest value of a schedule, over every ten-thousandth of a budget."""
    values = [schedule(i / MOMENTS) for i in range(MOMENTS + 1)]
    return min(values), max(values)


def lift(schedule: Schedule, least: float) -> dict[str, float]:
    """The fewest knobs, with values, that keep a schedule of multipliers up to 1 from falling below `least`; empty where
    none do."""
    level = max(0.5, math.ceil(100.0 * least) / 100.0)
    wanted = {"warmup": 0.0, "start": level, "end": level, "cooldown": 0.0}
    able = {name: value for name, value in wanted.items() if getattr(schedule, name, value) != value}
    for count in range(1, len(able) + 1):
        for names in itertools.combinations(able, count):
            knobs = {name: able[name] for name in names}
            with contextlib.suppress(UsageError):  # an end to which nothing leads
                if extent(replace(schedule, **knobs))[0] >= least:  # type: ignore[type-var]
                    return knobs
    return {}


def _wavelengths(mixer: Mixer, where: str) -> Iterator[str]:
    """Keys of the wavelengths in a mixer, and in the mixers that it holds, which are not at their defaults."""
    for field in fields(mixer):  # type: ignore[arg-type]
        value, key = getattr(mixer, field.name), f"{where}.{field.name}"
        if isinstance(value, Mixer):
            yield from _wavelengths(value, key)
        elif field.name in WAVELENGTHS and value != field.default:
            yield key


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Tokens in an optimizer step, scaled from the budget that the recipe was designed for to the one at hand.

    tokens = design_tokens * (expected / design_budget_tokens) ** exponent, between `least_tokens` and `design_tokens`.
    The exponent is the slope between the crammed recipe's 2^20 tokens a step at 9.1e9 tokens and the 8,192 tokens that
    were best at 3.5e6; see docs/decisions.md.
    """

    rows: int = 0
    """Rows in a step at the end of the ramp; 0 takes the rule above."""
    design_tokens: int = 1 << 20
    """Tokens in a step at the design budget."""
    design_budget_tokens: float = 9.1e9
    """Tokens of the budget that the recipe was designed for."""
    exponent: float = 0.617
    """How fast the batch grows with the expected tokens."""
    least_tokens: int = 4096
    """Never fewer tokens than this in a step, unless `rows` says so; and the ramp moves by as many."""
    ramp: Schedule = Constant()
    """Share of the full batch over the budget."""
    noise: float = 0.0
    """Rows in a step as a multiple of the gradient noise scale, as it is measured in training, between the least and the
    full batch; 0 for what the ramp says. A step smaller than a micro-batch is padded to one. See docs/training.md."""
    noise_every: int = 8
    """Steps from one measurement of the noise to the next."""

    def __post_init__(self) -> None:
        at_least("batch", noise=(self.noise, 0.0), noise_every=(self.noise_every, 1))
        if self.noise and self.ramp != Constant():
            raise UsageError(
                "the batch follows a ramp and the gradient's noise at once",
                where="batch.noise",
                fix='leave batch.noise at 0, or set batch.ramp="constant"',
            )
        within("batch", rows=(self.rows, 0, MOST_ROWS))
        at_least("batch", design_tokens=(self.design_tokens, 1), least_tokens=(self.least_tokens, 1))
        at_least("batch", design_budget_tokens=(self.design_budget_tokens, 1.0), exponent=(self.exponent, 0.0))

    def full_rows(self, *, expected_tokens: float, length: int) -> int:
        """Rows of `length` tokens in a full step when the budget is expected to read that many tokens."""
        if self.rows:
            return self.rows
        scale: float = (expected_tokens / self.design_budget_tokens) ** self.exponent
        tokens = min(self.design_tokens, max(self.least_tokens, self.design_tokens * scale))
        return _round_number(tokens / length)

    def rows_at(self, fraction: float, *, full_rows: int, length: int, noise_rows: float = 0.0) -> int:
        """Rows of `length` tokens in the step that begins at this fraction: a multiple of `least_tokens`, or all.
        `noise_rows` is the noise scale, 0 before it was measured.

        No property of the device has a part in it, so that a run reads the same rows whatever its micro-batch.
        """
        if self.noise:
            wanted, quantum = self.noise * noise_rows, self.least_rows(length)
        else:
            share, quantum = self.ramp(fraction), max(1, self.least_tokens // length)
            wanted = share * full_rows
        return full_rows if wanted >= full_rows else min(full_rows, max(1, round(wanted / quantum)) * quantum)

    def least_rows(self, length: int) -> int:
        """Rows of the smallest step by the gradient's noise; two can be told apart."""
        return max(2, self.least_tokens // length)


def _round_number(rows: float) -> int:
    """The nearest of 8, 12, 16, 24, 32, 48, ... by ratio: whole micro-batches, and the same for a slightly other speed."""
    power = max(3, math.floor(math.log2(max(rows, 8.0))))
    around = (1 << power, 3 << (power - 1), 2 << power)
    return min(around, key=lambda candidate: abs(math.log(rows / candidate)))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the loop runs."""

    clip: float = 0.0
    """Largest global L2 norm of the gradient; 0 leaves it alone."""
    spike: float = 100.0
    """An update is left out when loss or gradient norm is so many times its median over the latest updates; 0 for never."""
    dropout: bool = False
    """Whether the model's dropout acts in pretraining."""
    isolate: bool = False
    """Whether a token of a packed row sees its own document only; see docs/attention.md."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Compute dtype; auto is bfloat16 where the device has bf16 instructions."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether to compile; auto weighs the budget and looks for a C++ compiler."""
    microbatch: int = 0
    """Rows in a micro-batch; 0 measures the device before the clock starts."""
    mask_levels: int = 4
    """Distinct mask rates over a run, each of which compiles the head once."""
    dropout_levels: int = 3
    """Distinct shares of the dropout over a run, each of which compiles the model once."""
    validate_every: float = 0.1
    """Share of the budget between two looks at a part of the held-out text."""
    save_every_seconds: float = 120.0
    """Seconds between two checkpoints."""

    def __post_init__(self) -> None:
        at_least("train", clip=(self.clip, 0.0), mask_levels=(self.mask_levels, 1))
        within("train", microbatch=(self.microbatch, 0, MOST_ROWS), validate_every=(self.validate_every, 0.0, 1.0))
        at_least("train", save_every_seconds=(self.save_every_seconds, 0.0))
        if self.spike != 0.0 and not self.spike > 1.0:
            raise UsageError(
                f"spike is {self.spike}",
                where="train.spike",
                fix="give more than 1, or 0 to leave no finite update out",
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Data, model, objective, optimizer, schedules, budget and seed."""

    preset: str
    """Name of the preset it was made from."""
    size: str
    """Name of the size in the preset's table."""
    budget: Budget
    """What training may spend."""
    data: DataConfig = DataConfig()
    model: EncoderConfig = EncoderConfig()
    objective: Objective = Mlm()
    mask_rate: Schedule = Constant()
    """Share of the objective's peak rate over the budget."""
    optimizer: Optimizer = Muon()
    rate: Schedule = Trapezoid()
    """Share of the peak learning rates over the budget."""
    decay: Schedule = Constant()
    """Share of the optimizer's peak weight decay over the budget."""
    average: Average = Last()
    """What of the weights is looked at and kept."""
    dropout: Schedule = Constant()
    """Share of the model's dropout over the budget, where train.dropout is on."""
    length: Schedule = Constant()
    """Share of a row's length over the budget: rows are read in pieces of a half, a quarter, ... of their tokens."""
    batch: BatchConfig = BatchConfig()
    train: TrainConfig = TrainConfig()
    seed: int = 0
    """Seed of every named random stream."""

    def __post_init__(self) -> None:
        for name, levels in (("mask_levels", self.train.mask_levels), ("dropout_levels", self.train.dropout_levels)):
            if not 1 <= levels <= MOST_LEVELS:
                raise UsageError(
                    f"{name} is {levels}",
                    where=f"train.{name}",
                    fix=f"give 1 to {MOST_LEVELS}: each compiles the model or its head once more",
                )
        self._refuse_impossible_schedules()
        self._refuse_schedules_to_nothing()
        self._refuse_idle_wavelengths()
        self._refuse_impossible_averages()
        self._refuse_a_falling_rate()
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}", where="seed", fix="give a whole number from 0 on")
        within("", seed=(self.seed, 0, MOST_SEED))

    def lengths(self) -> list[int]:
        """What rows can be cut into without a remainder: all of a row, a half, a quarter, ..., not below 16 tokens and what
        the model can read."""
        found, unit = [self.data.length], 2 * self.model.shape.multiple
        while found[-1] % unit == 0 and found[-1] // 2 >= LEAST_LENGTH:
            found.append(found[-1] // 2)
        return found

    def _peak_rate(self) -> float:
        """Share of the tokens that are predicted at a mask rate of 1, where it is that rate which says how many."""
        asked, kinds = self.objective.predicted, self.objective.kinds
        scheduled = [kind for kind in kinds if asked(MANY, 0.5, kind) < asked(MANY, 1.0, kind)]
        return max((asked(MANY, 1.0, kind) / MANY for kind in scheduled), default=0.0)

    def _refuse_impossible_averages(self) -> None:
        """Of neighbours, in a shape that shortens rows: here before data are prepared, in the model for other callers."""
        multiple = self.model.shape.multiple
        if self.data.length % multiple:
            raise UsageError(
                f"rows of {self.data.length} tokens do not suit a shape that averages over {multiple}",
                where="data.length",
                fix=f"give a multiple of {multiple}",
            )
        if self.train.isolate and multiple > 1:
            raise UsageError(
                "a shape that averages neighbours cannot keep the documents of a row apart",
                where="train.isolate",
                fix="set train.isolate=false, or choose the plain shape",
            )

    def _refuse_a_falling_rate(self) -> None:
        """Of an optimizer that averages in its place; every preset's rate falls."""
        moves = self.optimizer.inner if isinstance(self.optimizer, Sam) else self.optimizer
        if isinstance(moves, ScheduleFree) and self.rate(1.0) < extent(self.rate)[1]:
            raise UsageError(
                "schedule_free takes the place of a falling rate, and the rate falls",
                where="rate",
                fix="set rate=constant and rate.warmup=0.02, or choose another optimizer",
            )

    def _refuse_idle_wavelengths(self) -> None:
        if self.model.position != "rotary" and (key := next(_wavelengths(self.model.mixer, "model.mixer"), "")):
            raise UsageError(
                f"{key} is the base of rotary wavelengths, and model.position is {self.model.position}",
                where=key,
                fix="set model.position=rotary, or leave it at its default",
            )

    def _refuse_schedules_to_nothing(self) -> None:
        """A rate may begin and end at 0, as its presets' do; a step without a prediction, or of rows without tokens, learns
        nothing, however high the rate is."""
        if extent(self.rate)[1] == 0.0:
            raise UsageError(
                "the learning rate is 0 throughout", where="rate", fix="give a schedule that rises above 0"
            )
        share, length, shortest = self._peak_rate(), self.data.length, self.lengths()[-1]
        asks = (
            # Less than half a token of a row is none, and a step would predict one all the same.
            ("mask_rate", self.mask_rate, 0.5 / (share * length) if share else 0.0, "no token of a row is predicted"),
            # What is a little shorter than the shortest piece is read as that piece.
            ("length", self.length, 0.5 * shortest / length, f"rows would have fewer than {shortest // 2} tokens"),
        )
        for name, schedule, least, what in asks:
            if schedule == Constant() or (low := extent(schedule)[0]) >= least:
                continue
            knobs = " and ".join(f"{name}.{knob}={value:g}" for knob, value in lift(schedule, least).items())
            other = f"another shape, such as {name}=constant"
            raise UsageError(
                f"{name} falls to {low:.3g} of its peak, and below {least:.3g} {what}",
                where=name,
                fix=f"set {knobs}, or {other}" if knobs else f"give {other}",
            )

    def _refuse_impossible_schedules(self) -> None:
        rate, most = self._peak_rate(), extent(self.mask_rate)[1]
        if rate * most > 1.0 + 2.0 / MANY:
            raise UsageError(
                f"{rate:.3g} of the tokens, times {most:.3g}, is more than all of them",
                where="mask_rate",
                fix=f"give a schedule of at most {1.0 / rate:.3g}, or an objective with a rate of at most {1.0 / most:.3g}",
            )
        if self.model.layer_drop and not self.train.dropout:
            raise UsageError(
                f"model.layer_drop is {self.model.layer_drop}, and nothing is dropped in pretraining",
                where="model.layer_drop",
                fix="set train.dropout=true, or model.layer_drop=0",
            )
        if self.dropout != Constant():
            peak = max(self.model.dropout, self.model.layer_drop)
            if not self.train.dropout or not peak:
                raise UsageError(
                    "dropout has a schedule, and the model drops nothing in pretraining",
                    where="dropout",
                    fix="set train.dropout=true and a model.dropout or layer_drop above 0, or leave the schedule out",
                )
            if (most := peak * extent(self.dropout)[1]) >= 1.0:
                raise UsageError(
                    f"dropout comes to {most:.3g}",
                    where="dropout",
                    fix="give a schedule that times model.dropout stays below 1",
                )
        if self.length != Constant() and len(self.lengths()) == 1:
            raise UsageError(
                f"rows of {self.data.length} tokens cannot be cut into shorter ones",
                where="length",
                fix=f"give data.length={4 * LEAST_LENGTH} or more, a multiple of a power of two, or leave the schedule out",
            )
