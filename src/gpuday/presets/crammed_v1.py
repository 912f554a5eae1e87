"""The first recipe of Geiping & Goldstein, arXiv 2212.14034 (`bert-c5` with `bert-o3` and processed C4)."""

import dataclasses

from gpuday.core.clock import Budget
from gpuday.objectives.mlm import Mlm
from gpuday.optim.adamw import Adamw
from gpuday.presets.crammed import crammed
from gpuday.recipe import BatchConfig, Recipe
from gpuday.schedules.ramp import Ramp


def crammed_v1(size: str, budget: Budget) -> Recipe:
    """The paper's first recipe, half the batch and 15 per cent masked; 120,179,713 parameters at base size.

    command:  gpuday run crammed_v1 --size base --budget 24h --corpus TEXT
    device:   one GPU of the paper's time (A6000); 24 hours
    expected: GLUE 78.6 under P1 with the paper's data (its first version)

    `crammed-v1` is the same name. What differs from `crammed` is the head's matrix of width by width between hidden
    state and decoder, the mask rate, the batch of 4,096 rows with its ramp of 300,000 out of 600,000 micro-batches, here
    half of the budget, and AdamW's eps of 1e-6. The batch belongs to the 9.8e9 tokens of so many micro-batches of 128
    rows; below, it follows the budget.

    Four departures beside those of `crammed`: a row has exactly 15 per cent of its positions predicted, where each had
    that chance; norms do not decay, where the scales of the blocks' norms did, their names not being on its list;
    repeated substrings of 75 bytes are not cut out; and attention is torch's, not the first FlashAttention.
    """
    base = crammed(size, budget)
    return dataclasses.replace(
        base,
        preset="crammed_v1",
        model=dataclasses.replace(base.model, head_transform=True, head_activation=False),
        objective=Mlm(rate=0.15, masked=0.8, random=0.1),
        optimizer=Adamw(lr=1e-3, beta1=0.9, beta2=0.98, eps=1e-6, weight_decay=0.01),
        batch=BatchConfig(
            design_tokens=4096 * 128, design_budget_tokens=600_000 * 128 * 128, ramp=Ramp(start=0.0, until=0.5)
        ),
    )
