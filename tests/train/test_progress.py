"""Progress, pace and turns: plain values that come back from a checkpoint as they went in."""

import dataclasses
import json
from typing import get_args

from gpuday.train.progress import ACTIONS, Action, Pace, Progress


def test_progress_survives_json() -> None:
    """What a checkpoint's state holds of it is what comes back, nested answers included."""
    answer = {"nats_per_token": 6.1, "by_source": {}}
    progress = Progress(step=3, position=24, tokens=768, flops=1.25e8, microbatch=4, compilations=2, before=answer)
    assert Progress(**json.loads(json.dumps(dataclasses.asdict(progress)))) == progress


def test_a_step_that_was_made_counts_and_measures_the_next() -> None:
    """Sixteen losses and norms at most, the latest; the count of left out updates begins anew."""
    progress = Progress(skipped=2)
    for i in range(20):
        progress = progress.after(
            rows=8, tokens=256, flops=1e6, loss=float(i), norm=2.0 * i, skipped=False, compilations=3
        )
    assert (progress.step, progress.position, progress.tokens, progress.flops) == (20, 160, 5120, 2e7)
    assert (progress.skipped, progress.compilations) == (0, 3)
    assert progress.losses == [float(i) for i in range(4, 20)]
    assert progress.norms == [2.0 * i for i in range(4, 20)]


def test_a_step_that_was_left_out_counts_and_measures_nothing() -> None:
    """Its rows were read; what is usual stays what it was."""
    before = Progress(step=4, position=32, tokens=1024, flops=4.0, losses=[1.0], norms=[2.0])
    after = before.after(
        rows=8, tokens=256, flops=1.0, loss=float("nan"), norm=float("inf"), skipped=True, compilations=0
    )
    wanted = {"step": 5, "position": 40, "tokens": 1280, "flops": 5.0, "skipped": 1}
    assert after == dataclasses.replace(before, **wanted)
    assert Progress(**json.loads(json.dumps(dataclasses.asdict(after), allow_nan=False))) == after


def test_pace_survives_json() -> None:
    """Seconds come back to the bit."""
    pace = Pace(look_seconds=0.1, row_seconds=1e-3 / 3, compile_seconds=31.7)
    assert Pace(**json.loads(json.dumps(dataclasses.asdict(pace)))) == pace


def test_every_action_has_a_number() -> None:
    """Ranks tell each other numbers; the largest is taken, so that nothing that rank 0 decides is below the others' 0."""
    assert ACTIONS == get_args(Action)
    assert ACTIONS[0] == "step"
