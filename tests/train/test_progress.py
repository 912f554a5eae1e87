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


def test_pace_survives_json() -> None:
    """Seconds come back to the bit."""
    pace = Pace(look_seconds=0.1, row_seconds=1e-3 / 3, compile_seconds=31.7)
    assert Pace(**json.loads(json.dumps(dataclasses.asdict(pace)))) == pace


def test_every_action_has_a_number() -> None:
    """Ranks tell each other numbers; the largest is taken, so that nothing that rank 0 decides is below the others' 0."""
    assert ACTIONS == get_args(Action)
    assert ACTIONS[0] == "step"
