"""What a budget is expected to read, worked by hand."""

from collections.abc import Callable

import pytest

from gpuday.recipe import Recipe
from gpuday.train.expectation import Expectation
from gpuday.train.trial import OptimizerCost
from gpuday.train.useful import flops_per_token

MakeRecipe = Callable[..., Recipe]
LENGTH = 32
FREE = OptimizerCost(seconds=0.0, more_gradients=0)


def expectation(recipe: Recipe, optimizer: OptimizerCost = FREE, ranks: int = 1) -> Expectation:
    return Expectation(recipe=recipe, vocab=512, optimizer=optimizer, ranks=ranks)


def test_a_wall_clock_budget_reads_its_seconds_but_those_of_compiling_and_looking(make_recipe: MakeRecipe) -> None:
    """600 s, a twentieth for looks and saving, 20 s to compile, at 1,000 tokens/s: 550,000 tokens."""
    found = expectation(make_recipe("10m", batch__rows=8)).expected(1000.0, compile_seconds=20.0)
    assert found.tokens == pytest.approx(550_000)
    assert (found.rows, found.tokens_per_second) == (8, pytest.approx(1000.0))


def test_the_optimizer_takes_its_part_of_each_step(make_recipe: MakeRecipe) -> None:
    """Eight rows of 32 tokens at 256 tokens/s take 1 s, and the update as long again: half the speed."""
    found = expectation(make_recipe("10m", batch__rows=8), OptimizerCost(seconds=1.0, more_gradients=0)).expected(
        256.0, compile_seconds=0.0
    )
    assert found.tokens_per_second == pytest.approx(128.0)
    assert found.tokens == pytest.approx(128.0 * 570)


def test_an_optimizer_that_asks_for_gradients_again_pays_for_them(make_recipe: MakeRecipe) -> None:
    """One more look at the same rows, and no other cost: half the speed."""
    found = expectation(make_recipe("10m"), OptimizerCost(seconds=0.0, more_gradients=1)).expected(
        256.0, compile_seconds=0.0
    )
    assert found.tokens_per_second == pytest.approx(128.0)


def test_devices_that_train_together_share_the_gradients(make_recipe: MakeRecipe) -> None:
    """Four devices: eight rows take a quarter of a second, the update a quarter as on one."""
    found = expectation(make_recipe("10m"), OptimizerCost(seconds=0.25, more_gradients=0), ranks=4).expected(
        256.0, compile_seconds=0.0
    )
    assert found.tokens_per_second == pytest.approx(512.0)


@pytest.mark.parametrize("update", [0.0, 0.5, 50.0])
def test_the_batch_asks_for_the_tokens_that_are_read_with_it(make_recipe: MakeRecipe, update: float) -> None:
    """Whatever an update costs, the rule gives the batch that the expected tokens were computed with."""
    recipe = make_recipe("1h", batch__rows=0)
    found = expectation(recipe, OptimizerCost(seconds=update, more_gradients=0)).expected(1e4, compile_seconds=0.0)
    assert found.rows == recipe.batch.full_rows(expected_tokens=found.tokens, length=LENGTH)


def test_costly_updates_make_no_larger_batch(make_recipe: MakeRecipe) -> None:
    """They leave fewer tokens, and the rule's batch grows with the tokens."""
    recipe = make_recipe("1h", batch__rows=0)
    cheap, dear = (
        expectation(recipe, OptimizerCost(seconds=s, more_gradients=0)).expected(1e4, compile_seconds=0.0).rows
        for s in (0.0, 2.0)
    )
    assert dear < cheap


@pytest.mark.parametrize(("budget", "tokens"), [("1e7tok", 1e7), ("50steps", 50 * 8 * LENGTH)])
def test_a_budget_that_names_its_tokens_is_taken_at_its_word(
    make_recipe: MakeRecipe, budget: str, tokens: float
) -> None:
    """No speed enters: the batch of such a run is the same on every machine."""
    recipe = make_recipe(budget)
    fast, slow = (expectation(recipe).expected(speed, compile_seconds=9.0) for speed in (1e6, 1.0))
    assert fast.tokens == slow.tokens == tokens
    assert fast.rows == slow.rows


def test_a_number_of_steps_gets_the_least_batch_of_the_rule(make_recipe: MakeRecipe) -> None:
    """4,096 tokens are 128 rows of 32; how fast the device is says nothing."""
    assert expectation(make_recipe("50steps", batch__rows=0)).expected(1.0, compile_seconds=0.0).rows == 128


def test_a_budget_in_flops_expects_what_they_pay_for(make_recipe: MakeRecipe) -> None:
    """Twice the FLOPs, twice the tokens."""
    one, two = (expectation(make_recipe(b)).expected(1e4, compile_seconds=0.0).tokens for b in ("1e12flop", "2e12flop"))
    assert two == pytest.approx(2 * one)
    assert one > 0


def test_a_budget_in_flops_pays_for_gradients_that_are_asked_for_again(make_recipe: MakeRecipe) -> None:
    """One more in each step: half of the tokens."""
    recipe = make_recipe("1e12flop")
    once = expectation(recipe).expected(1e4, compile_seconds=0.0).tokens
    twice = expectation(recipe, OptimizerCost(seconds=0.0, more_gradients=1)).expected(1e4, compile_seconds=0.0).tokens
    assert once == pytest.approx(2 * twice)


def test_a_budget_in_flops_is_spent_on_each_kind_of_step_in_its_share(make_recipe: MakeRecipe) -> None:
    """A quarter of it on causal steps, which cost more a token, and the rest on masked ones."""
    recipe = make_recipe("1e12flop")
    masked, causal = (flops_per_token(recipe, vocab=512, kind=kind) for kind in ("masked", "causal"))
    found = expectation(recipe).expected(1e4, compile_seconds=0.0).tokens
    assert found == pytest.approx(0.25e12 / causal + 0.75e12 / masked) and found < 0.99 * 1e12 / masked


def test_the_seconds_of_a_budget_in_tokens_follow_from_the_speed(make_recipe: MakeRecipe) -> None:
    """1e6 tokens at 1,000 a second; a wall-clock budget is its own answer."""
    assert expectation(make_recipe("1e6tok")).seconds(1000.0) == pytest.approx(1000.0)
    assert expectation(make_recipe("10m")).seconds(1000.0) == 600.0


def test_a_budget_shorter_than_its_compiling_still_expects_a_row(make_recipe: MakeRecipe) -> None:
    """Where a recipe insists on compiling: never zero tokens, nor fewer."""
    assert expectation(make_recipe("5s")).expected(1000.0, compile_seconds=60.0).tokens == LENGTH
