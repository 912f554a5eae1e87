"""Looks at the held-out text take as many rows at a time as memory holds, and the answer is the same."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from gpuday.core.errors import FitError
from gpuday.data.prepared import PreparedData
from gpuday.objectives import Learner, Vocabulary
from gpuday.train.fit import Fit
from gpuday.train.looking import Looks
from gpuday.train.parallel import Ranks
from gpuday.train.validate import HeldOut

CPU = torch.device("cpu")


@pytest.fixture
def looks(data: PreparedData, vocabulary: Vocabulary, pinned: Fit) -> Callable[[Callable[[str], None]], Looks]:
    """As a run of four rows at a time would look; `note` hears of less."""
    held = HeldOut(data.heldout, vocabulary)
    return lambda note: Looks(held, pinned, device=CPU, ranks=Ranks(), interruptible=nullcontext, note=note)


def limit(learner: Learner, most: int) -> list[int]:
    """More than `most` rows at a time are out of memory; how many were tried."""
    tried: list[int] = []

    def before(module: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        tried.append(len(arguments[0]))
        if len(arguments[0]) > most:
            raise torch.OutOfMemoryError("out of memory")

    learner.model.encoder.register_forward_pre_hook(before)
    return tried


def test_what_is_too_large_is_halved_and_stays_halved(looks: Any, learner: Learner) -> None:
    """Four rows, two, and one at once in the next look; the answer is that of enough memory."""
    notes: list[str] = []
    wanted = looks(pytest.fail).ask(learner.model, rows=4, microbatch=4).nats_per_token
    tried, asked = limit(learner, 1), looks(notes.append)
    found = [asked.ask(learner.model, rows=4, microbatch=8).nats_per_token for _ in range(2)]
    assert found == pytest.approx([wanted] * 2, rel=1e-6)
    assert tried == [4, 2] + [1] * 8
    assert notes == [
        "out of memory in a look with 4 rows at a time; from here on 2",
        "out of memory in a look with 2 rows at a time; from here on 1",
    ]


def test_a_single_row_that_is_too_large_ends_the_run(looks: Any, learner: Learner) -> None:
    """With what to do about it; and no more rows are tried than training has at a time."""
    tried = limit(learner, 0)
    with pytest.raises(FitError, match="held-out"):
        looks(lambda message: None).ask(learner.model, rows=4, microbatch=1)
    assert tried == [1]
