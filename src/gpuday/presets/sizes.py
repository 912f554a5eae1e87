"""Sizes by name, and what follows from size and budget: vocabulary, row length, and the size `auto` stands for."""

from dataclasses import dataclass

from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError, nearest

DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """Depth, width and vocabulary of a size."""

    layers: int
    width: int
    vocab: int


LADDER = {
    "nano": Size(layers=4, width=256, vocab=8192),
    "micro": Size(layers=6, width=384, vocab=16384),
    "mini": Size(layers=8, width=512, vocab=16384),
    "small": Size(layers=12, width=512, vocab=32768),
    "base": Size(layers=16, width=768, vocab=32768),
    "large": Size(layers=24, width=1024, vocab=32768),
}
# From deep and narrow to shallow and wide at two thirds of base's FLOPs and more, for the ablation of Geiping &
# Goldstein, arXiv 2212.14034: `crammed-bamboo`, its runs of 24 layers of 512, and `bert-i4`. `auto` never takes one.
# Heads are as wide as the preset's, so that `wide` has 17 of 64; `bert-i4` has 8 of 136, with model.mixer.head_width=136.
OUTLINES = {
    "bamboo": Size(layers=48, width=384, vocab=32768),
    "deep": Size(layers=24, width=512, vocab=32768),
    "wide": Size(layers=8, width=1088, vocab=32768),
}
SIZES = {**LADDER, **OUTLINES}

# Largest size worth its steps, by seconds of budget. From the CPU's measured 10k tokens/s at nano and the ratio of the
# sizes' FLOPs a token, and for a GPU at 300 TFLOP/s: each size first where it reads about 20 tokens a parameter.
AUTO = {
    "cpu": ((1800.0, "nano"), (4 * 3600.0, "micro"), (2 * DAY, "mini"), (float("inf"), "small")),
    "cuda": ((300.0, "mini"), (1800.0, "small"), (2 * DAY, "base"), (float("inf"), "large")),
}


def find_size(name: str) -> Size:
    """The size called `name`. Raises UsageError with the nearest match."""
    if name not in SIZES:
        raise UsageError(f"no size is called {name!r}", where="--size", fix=nearest(name, [*SIZES, "auto"]))
    return SIZES[name]


def auto_size(device: str, budget: Budget) -> str:
    """The size for a device kind (`cpu`, `cuda`) and a budget; nano for budgets that are not in seconds."""
    seconds = budget.seconds
    if seconds is None:
        return "nano"
    return next(name for limit, name in AUTO[device] if seconds <= limit)


def is_short(budget: Budget) -> bool:
    """Whether rows of 128 tokens are the better use of the budget: an hour or less, or no wall clock at all."""
    return (budget.seconds or 0.0) <= 3600.0
