"""Explicit attention against SDPA on this CPU: tokens/s of compiled training at 4x256, 128 positions, both in one run.

`python benchmarks/attention.py [OUT.json]` prints one JSON object: the medians of alternating rounds, and their ratio.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from gpuday.core.clock import Budget
from gpuday.core.environment import environment
from gpuday.models.mixers import softmax
from gpuday.objectives import Learner, Vocabulary
from gpuday.presets import find
from gpuday.train.assemble import make_learner
from gpuday.train.device import describe

ROWS, LENGTH, VOCAB, ROUNDS, WARM_UP = 64, 128, 8192, 15, 2


def main() -> None:
    """Compile both, time them in turn, print and write the result."""
    recipe = find("modern")("nano", Budget.parse("10m"))
    vocabulary = Vocabulary(size=VOCAB, mask_id=4, special_ids=(0, 1, 2, 3, 4))
    ids = np.random.default_rng(0).integers(5, VOCAB, (ROWS, LENGTH))
    keys = np.arange(ROWS, dtype=np.uint64)
    arrays = recipe.objective.inputs(ids, keys, seed=0, epoch=0, multiplier=1.0, vocabulary=vocabulary)
    inputs = {name: torch.from_numpy(values) for name, values in arrays.items()}
    learner = make_learner(recipe, vocab=VOCAB)
    learner.train()
    learner.model.encoder.dtype = torch.bfloat16
    learner.compile(dynamic=False, fullgraph=True)
    limits = {"explicit": 256, "sdpa": 0}
    speeds: dict[str, list[float]] = {name: [] for name in limits}
    for _ in range(ROUNDS + WARM_UP):
        for name, limit in limits.items():
            softmax.EXPLICIT_UP_TO = limit  # the compiler keeps both variants and picks by this value
            speeds[name].append(ROWS * LENGTH / seconds(learner, inputs))
    speeds = {name: values[WARM_UP:] for name, values in speeds.items()}
    medians = {name: round(statistics.median(values)) for name, values in speeds.items()}
    result = {
        "benchmark": "attention",
        "shape": {"layers": 4, "width": 256, "rows": ROWS, "length": LENGTH, "vocabulary": VOCAB},
        "tokens_per_second": medians,
        "ratio": round(medians["explicit"] / medians["sdpa"], 3),
        "rounds": ROUNDS,
        "environment": environment(describe(torch.device("cpu"))),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text + "\n")


def seconds(learner: Learner, inputs: dict[str, torch.Tensor]) -> float:
    """Seconds of one forward and backward."""
    start = time.perf_counter()
    learner(inputs).backward()
    learner.zero_grad(set_to_none=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
