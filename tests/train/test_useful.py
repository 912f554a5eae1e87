"""Useful FLOPs of a token: by hand for a masked objective, at every length, rate and kind."""

from collections.abc import Callable

import pytest

from gpuday.models.flops import training_per_token
from gpuday.objectives import Change
from gpuday.recipe import Recipe
from gpuday.train.assemble import changed
from gpuday.train.useful import ModelCosts, flops_per_token


@pytest.mark.parametrize(("length", "multiplier", "predicted"), [(0, 1.0, 13), (32, 0.5, 6), (16, 1.0, 6)])
def test_a_token_costs_what_its_row_and_its_share_of_the_head_cost(
    tiny: Recipe, length: int, multiplier: float, predicted: int
) -> None:
    """40% of 32 tokens are 13, half of that rate 6, 40% of 16 tokens 6; without a length the data's own counts."""
    share = predicted / (length or 32)
    wanted = training_per_token(tiny.model, vocab=100, length=length or 32, predicted_share=share)
    assert flops_per_token(tiny, vocab=100, length=length, multiplier=multiplier) == pytest.approx(wanted, rel=1e-12)


def test_a_changed_model_costs_what_its_config_says(tiny: Recipe) -> None:
    """As one would count it alone."""
    change, costs = Change(name="small", width=0.5), ModelCosts(tiny.model, 512)
    alone = ModelCosts(changed(tiny.model, change), 512)
    assert costs.width == 32
    assert costs.forward(0.25, length=32, change=change) == alone.forward(0.25, length=32)


def test_tokens_left_out_cost_nothing(make_recipe: Callable[..., Recipe]) -> None:
    """Of 32 tokens 8 are predicted and 12 left out: each costs what the other 20 cost in a row of their own."""
    recipe = make_recipe(objective={"part": "mlm", "rate": 0.25, "token_drop": 0.5})
    shown = training_per_token(recipe.model, vocab=512, length=20, predicted_share=8 / 20)
    assert flops_per_token(recipe, vocab=512) == pytest.approx(shown * 20 / 32)


def test_each_kind_of_step_has_its_own_cost(make_recipe: Callable[..., Recipe]) -> None:
    """A causal step predicts every token but the first."""
    recipe = make_recipe(objective={"part": "hybrid"})
    masked, causal = (flops_per_token(recipe, vocab=512, kind=kind) for kind in ("masked", "causal"))
    assert causal == pytest.approx(training_per_token(recipe.model, vocab=512, length=32, predicted_share=31 / 32))
    assert masked < causal
