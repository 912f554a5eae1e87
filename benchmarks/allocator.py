"""Freed memory kept by the process against given back to the system: tokens/s, page faults and peak memory of training.

Each round is a process of its own, since the setting lasts for one; both settings alternate. Compiled forward and backward.
"""

import json
import os
import resource
import subprocess
import sys
import time

from measure import Record, Spread, parser
from workload import build_learner, fixed_inputs, workload

from gpuday.train import device as devices

WARM_UP, TIMED = 4, 8


def main() -> None:
    """Alternate processes at each size."""
    asked = parser(__doc__, sizes="nano,micro")
    asked.add_argument("--be", choices=["kept", "returned"], help="one process of a setting")
    arguments = asked.parse_args()
    if arguments.be:
        print(json.dumps(train(arguments.sizes[0], kept=arguments.be == "kept")))
        return
    record = Record("allocator", arguments.out)
    for size in arguments.sizes[: 1 if arguments.quick else None]:
        found: dict[str, list[dict[str, float]]] = {"kept": [], "returned": []}
        for _ in range(1 if arguments.quick else 3):
            for setting, answers in found.items():
                answers.append(in_a_process(size, setting))
        figures = {
            f"{setting}_{name}": Spread.of([answer[name] for answer in answers])
            for setting, answers in found.items()
            for name in answers[0]
        }
        ratio = figures["kept_tokens_per_second"].median / figures["returned_tokens_per_second"].median
        record.add(size, shape=workload(size).shape(), figures={**figures, "ratio": ratio})
    record.table()


def in_a_process(size: str, setting: str) -> dict[str, float]:
    """What one process of that setting measured."""
    command = [sys.executable, os.path.abspath(__file__), "--be", setting, "--sizes", size]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def train(size: str, *, kept: bool) -> dict[str, float]:
    """Median tokens/s of micro-batches, page faults in one, and the process's peak."""
    if not kept:
        devices.keep_freed_memory = lambda: False
    work, device = workload(size), devices.pick_device()
    learner = build_learner(work, device, compiled=True)
    inputs = fixed_inputs(work, device)
    seconds = []
    for step in range(WARM_UP + TIMED):
        if step == WARM_UP:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        learner(inputs, work.kind).backward()
        seconds.append(time.perf_counter() - start)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "tokens_per_second": work.microbatch * work.length / Spread.of(seconds[WARM_UP:]).median,
        "faults": (used.ru_minflt - before) / TIMED,
        "peak_mb": used.ru_maxrss / 1000,
    }


if __name__ == "__main__":
    main()
