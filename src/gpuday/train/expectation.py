"""What a budget is expected to read: tokens follow from speed, the batch from tokens, and speed from the batch again."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from gpuday.recipe import Recipe
from gpuday.train.scheduled import kinds_over
from gpuday.train.trial import OptimizerCost
from gpuday.train.useful import flops_per_token

OVERHEAD = 0.05  # of the budget: looks at the held-out text (2% for the last, 2.5% for ten quick ones) and saving
MOST_ROUNDS = 20


def mean_cost(recipe: Recipe, costs: Mapping[str, float]) -> float:
    """What a token costs in the mean over the whole run, from what it costs in each kind of step.

    Kinds follow the used share of the budget: where it is spent on these costs, seconds of a wall clock for one, a dear
    kind reads fewer tokens of its share; else, where tokens or steps are counted, each share reads as many.
    """
    parts = kinds_over(recipe.objective)
    means = [sum(costs[kind] * count for kind, count in kinds.items()) / kinds.total() for kinds in parts]
    return statistics.fmean(means) if recipe.budget.unit in ("tokens", "steps") else statistics.harmonic_mean(means)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Rows of a full step, tokens of the whole budget, tokens/s of full steps."""

    rows: int
    tokens: float
    tokens_per_second: float


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A recipe's budget, beside what its optimizer costs here, and how many devices share a step."""

    recipe: Recipe
    vocab: int
    optimizer: OptimizerCost
    ranks: int = 1

    def seconds(self, speed: float) -> float:
        """Seconds of the budget when gradients take 1 / `speed` seconds a token and nothing is compiled."""
        found = self.expected(speed, compile_seconds=0.0)
        return self.recipe.budget.seconds or found.tokens / found.tokens_per_second

    def expected(self, speed: float, *, compile_seconds: float) -> Expected:
        """The batch whose rule asks for the tokens that are read with it, from gradients at `speed` tokens/s a device.

        A smaller batch updates more often, which costs tokens: from the largest batch down the rows only fall.
        """
        recipe, length = self.recipe, self.recipe.data.length
        rows = recipe.batch.full_rows(expected_tokens=self._tokens(speed * self.ranks, compile_seconds), length=length)
        for _ in range(MOST_ROUNDS):
            step_speed = self._step_speed(rows, speed)
            tokens = self._tokens(step_speed, compile_seconds)
            wanted = recipe.batch.full_rows(expected_tokens=tokens, length=length)
            if wanted == rows:
                break
            rows = wanted
        return Expected(rows=rows, tokens=tokens, tokens_per_second=step_speed)

    def _step_speed(self, rows: int, speed: float) -> float:
        tokens = rows * self.recipe.data.length
        gradients = (1 + self.optimizer.more_gradients) * tokens / (speed * self.ranks)
        return tokens / (gradients + self.optimizer.seconds)

    def _tokens(self, speed: float, compile_seconds: float) -> float:
        """Tokens of the budget. A number of steps decides nothing: the rule then gives its smallest batch."""
        recipe, amount = self.recipe, self.recipe.budget.amount
        length, unit = recipe.data.length, recipe.budget.unit
        if unit == "tokens":
            return amount
        if unit == "steps":
            return amount * recipe.batch.full_rows(expected_tokens=0.0, length=length) * length
        if unit == "flops":
            kinds = recipe.objective.kinds
            flops = {kind: flops_per_token(recipe, vocab=self.vocab, kind=kind) for kind in kinds}
            return amount / (mean_cost(recipe, flops) * (1 + self.optimizer.more_gradients))
        return max(float(length), ((1 - OVERHEAD) * amount - compile_seconds) * speed)
