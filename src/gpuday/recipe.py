"""A recipe: a whole run as one frozen value, from which the run can be rebuilt."""

import math
from dataclasses import dataclass
from typing import Literal

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
}


MOST_ROWS = 1 << 24  # of a step: more than corpora have
MOST_MASK_LEVELS = 8  # torch.compile's default limit of recompilations


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

    def __post_init__(self) -> None:
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

    def rows_at(self, fraction: float, *, full_rows: int, length: int) -> int:
        """Rows of `length` tokens in the step that begins at this fraction: a multiple of `least_tokens`, or all.

        No property of the device has a part in it, so that a run reads the same rows whatever its micro-batch.
        """
        share, quantum = self.ramp(fraction), max(1, self.least_tokens // length)
        return full_rows if share >= 1.0 else min(full_rows, max(1, round(share * full_rows / quantum)) * quantum)


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
    batch: BatchConfig = BatchConfig()
    train: TrainConfig = TrainConfig()
    seed: int = 0
    """Seed of every named random stream."""

    def __post_init__(self) -> None:
        if not 1 <= self.train.mask_levels <= MOST_MASK_LEVELS:
            raise UsageError(
                f"mask_levels is {self.train.mask_levels}",
                where="train.mask_levels",
                fix=f"give 1 to {MOST_MASK_LEVELS}: each compiles the head, and the compiler keeps no more",
            )
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}", where="seed", fix="give a whole number from 0 on")
        within("", seed=(self.seed, 0, MOST_SEED))
